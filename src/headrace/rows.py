"""Annotations of the cells of a chunk: a table, or rows of one that several chunks share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, overload

import pandas as pd


@dataclass(frozen=True, eq=False)
class TableRows:
    """Rows of a table that several chunks share.

    To cut them out takes pandas a millisecond where there are thirty columns, while no other thread can do anything
    in Python; a chunk whose `obs` no step looks at goes from the source to the file without that.

    Parameters
    ----------
    table
        The table.
    start, stop
        Positions in it.

    Examples
    --------
    >>> table = pd.DataFrame({"donor": [1, 1, 2]}, index=["a", "b", "c"])
    >>> first, second = TableRows(table, 0, 2), TableRows(table, 2, 3)
    >>> len(first), second.cut.index.tolist(), len(first.joined(second))
    (2, ['c'], 3)
    """

    table: pd.DataFrame
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __reduce__(self) -> tuple[type[TableRows], tuple[pd.DataFrame, int, int]]:
        return TableRows, (self.cut, 0, len(self))  # and not the whole table

    @cached_property
    def cut(self) -> pd.DataFrame:
        """The rows, as a table of their own."""
        return self.table.iloc[self.start : self.stop]

    def joined(self, later: ObsRows) -> TableRows | None:
        """Return these rows and those after them, if they follow in the same table; else None."""
        if not isinstance(later, TableRows) or later.table is not self.table or later.start != self.stop:
            return None
        return TableRows(self.table, self.start, later.stop)


ObsRows: TypeAlias = pd.DataFrame | TableRows
"""Annotations of some cells."""


class Obs:
    """The attribute `obs` of a chunk: a table, cut out once somebody looks at it."""

    @overload
    def __get__(self, chunk: None, owner: type[Any]) -> Obs: ...
    @overload
    def __get__(self, chunk: Any, owner: type[Any]) -> pd.DataFrame: ...
    def __get__(self, chunk: Any, owner: type[Any]) -> pd.DataFrame | Obs:
        if chunk is None:
            raise AttributeError("obs")  # so that the field has no default
        return cut(chunk.rows)

    def __set__(self, chunk: Any, rows: ObsRows) -> None:
        chunk.__dict__["rows"] = rows


def cut(rows: ObsRows) -> pd.DataFrame:
    """Return rows as a table."""
    return rows.cut if isinstance(rows, TableRows) else rows

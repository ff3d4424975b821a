"""Annotations of the cells of a chunk: a table, or arrays that become one when somebody looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pandas as pd


class Codes(NamedTuple):
    """A categorical column: the number of each cell's category, -1 where there is none."""

    codes: npt.NDArray[Any]
    dtype: pd.CategoricalDtype


Values: TypeAlias = npt.NDArray[Any] | Codes | pd.api.extensions.ExtensionArray
"""A column."""


@dataclass(frozen=True, eq=False)
class CellRows:
    """Annotations of some cells as arrays, one for each column.

    To cut rows out of a table of thirty columns takes pandas a millisecond, and to add columns as long, while no other
    thread can do anything in Python; with arrays it takes microseconds. Chunks whose `obs` no step looks at never
    become a table.

    Parameters
    ----------
    index
        Names of the cells.
    columns
        Values by the column's name, each of shape (n_obs,).

    Examples
    --------
    >>> table = pd.DataFrame({"donor": pd.Categorical(["p", "q", "p"])}, index=["a", "b", "c"])
    >>> rows = CellRows.of(table).take(slice(1, 3)).with_columns({"age": np.array([30, 40])})
    >>> rows.table
      donor  age
    b     q   30
    c     p   40
    """

    index: pd.Index
    columns: Mapping[Any, Values]

    @staticmethod
    def of(table: ObsRows) -> CellRows:
        """Return the columns of a table, whose names must be unique; nothing is copied."""
        if isinstance(table, CellRows):
            return table
        return CellRows(table.index, {name: _values(column.array) for name, column in table.items()})

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows as a table; nothing is copied."""
        if not self.columns:
            return pd.DataFrame(index=self.index)
        columns = {name: _held(values, self.index) for name, values in self.columns.items()}
        return pd.DataFrame(columns, index=self.index, copy=False)

    def take(self, rows: slice | npt.NDArray[np.intp]) -> CellRows:
        """Return some rows, given by their positions."""
        return CellRows(self.index[rows], {name: _taken(values, rows) for name, values in self.columns.items()})

    def with_columns(self, columns: Mapping[str, Any]) -> CellRows | None:
        """Return the same cells with more columns, or None where pandas would have to see what is meant by them."""
        more = {name: _values(each) for name, each in columns.items() if isinstance(each, _ARRAYS) and each.ndim == 1}
        if len(more) < len(columns) or any(len(each) != len(self) for each in columns.values()):
            return None
        return CellRows(self.index, {**self.columns, **more})


_ARRAYS = (np.ndarray, pd.api.extensions.ExtensionArray)

ObsRows: TypeAlias = pd.DataFrame | CellRows
"""Annotations of some cells."""


class Obs:
    """The attribute `obs` of a chunk: a table, made once somebody looks at it, and from then on what the chunk has."""

    @overload
    def __get__(self, chunk: None, owner: type[Any]) -> Obs: ...
    @overload
    def __get__(self, chunk: Any, owner: type[Any]) -> pd.DataFrame: ...
    def __get__(self, chunk: Any, owner: type[Any]) -> pd.DataFrame | Obs:
        if chunk is None:
            raise AttributeError("obs")  # so that the field has no default
        table = chunk.__dict__["rows"] = as_table(chunk.rows)
        return table

    def __set__(self, chunk: Any, rows: ObsRows) -> None:
        chunk.__dict__["rows"] = rows


def as_table(rows: ObsRows) -> pd.DataFrame:
    """Return rows as a table."""
    return rows.table if isinstance(rows, CellRows) else rows


def column(rows: ObsRows, name: str) -> pd.Series:
    """Return one column; no table is made for it."""
    return pd.Series(_held(rows.columns[name], rows.index)) if isinstance(rows, CellRows) else rows[name]


def take(rows: ObsRows, at: npt.NDArray[np.intp]) -> ObsRows:
    """Return some rows, given by their positions."""
    return rows.take(at) if isinstance(rows, CellRows) else rows.iloc[at]


def with_columns(rows: ObsRows, columns: Mapping[str, Any]) -> ObsRows:
    """Return rows with more columns: arrays, or whatever pandas takes for a column."""
    if isinstance(rows, CellRows):
        made = rows.with_columns(columns)
        if made is not None:
            return made
    table = as_table(rows).copy(deep=False)  # `assign` copies all that is there
    for name, values in columns.items():
        table[name] = values
    return table


def concatenated(parts: list[Values]) -> pd.Series:
    """Return the parts of a column, one after another."""
    if all(isinstance(part, np.ndarray) and part.dtype == parts[0].dtype for part in parts):
        return pd.Series(np.concatenate(parts), dtype=parts[0].dtype)
    return pd.concat([pd.Series(_held(part, None)) for part in parts], ignore_index=True)


def _values(array: Any) -> Values:
    """Return what is held of a column of pandas."""
    if isinstance(array, pd.Categorical):
        return Codes(array.codes, array.dtype)
    return array.to_numpy() if isinstance(array, pd.arrays.NumpyExtensionArray) else array


def _held(values: Values, index: pd.Index | None) -> Any:
    """Return what pandas takes for a column; text stays what it is."""
    if isinstance(values, Codes):
        values = pd.Categorical.from_codes(values.codes, dtype=values.dtype, validate=False)
    dtype = object if isinstance(values, np.ndarray) and values.dtype == object else None
    return pd.Series(values, index=index, dtype=dtype, copy=False)


def _taken(values: Values, rows: slice | npt.NDArray[np.intp]) -> Values:
    return Codes(values.codes[rows], values.dtype) if isinstance(values, Codes) else values[rows]

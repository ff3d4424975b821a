"""Conditions on columns of obs: said in SOMA's words, and checked here where SOMA has no words."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_COMPARE = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """A column and a value, or values.

    Parameters
    ----------
    column, op, value
        As in `column op value`; the value fits the column's type.
    or_nan
        Whether NaN passes too, which no comparison of TileDB says: it is the denial of one that NaN does not pass.
    """

    column: str
    op: str
    value: Any
    or_nan: bool = False

    @property
    def ours(self) -> bool:
        """Whether tiledbsoma has no words for it: none of its versions for NaN, older ones not for None."""
        return self.or_nan or self.value is None

    def soma(self, types: Callable[[str], pa.DataType]) -> str:
        """Return it in SOMA's words."""
        name = f"attr({self.column!r})"
        if not isinstance(self.value, tuple):
            return f"{name} {self.op} {_literal(self.value)}"
        single = singly(self.value, types(self.column))
        one, word = ("==", " or ") if self.op == "in" else ("!=", " and ")
        said = [f"{name} {one} {_literal(value)}" for value in single]
        listed = [value for value in self.value if value not in single]
        if listed:
            said.append(f"{name} {self.op} [{', '.join(map(_literal, listed))}]")
        return f"({word.join(said)})"

    def passed(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows of a table pass."""
        values = table[self.column].combine_chunks()
        wanted = self.value
        if pa.types.is_dictionary(values.type):
            if self.op[0] in "<>":  # levels, by their order
                values, wanted = values.indices, values.dictionary.index(wanted).as_py()
            else:
                values = values.dictionary_decode()
        if wanted is None:
            found = values.is_valid() if self.op == "!=" else values.is_null()
        elif isinstance(wanted, tuple):
            found = pc.is_in(values, pa.array(wanted).cast(values.type))
            found = pc.and_(values.is_valid(), found if self.op == "in" else pc.invert(found))
        else:
            found = _COMPARE[self.op](values, pa.scalar(wanted).cast(values.type))
        if self.or_nan:
            found = pc.or_(found, pc.is_nan(values))
        return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


@dataclass(frozen=True)
class Joined:
    """Conditions joined by "and" or by "or"."""

    word: str
    parts: tuple[Comparison | Joined, ...]


@dataclass(frozen=True)
class Filter:
    """A filter that was read.

    Parameters
    ----------
    tree
        Its conditions.
    soma
        What TileDB is asked for; None for all cells.
    columns
        The columns that it compares.
    exact
        Whether TileDB's answer is the answer; if not, `passed` says which of its cells are.
    """

    tree: Comparison | Joined
    soma: str | None
    columns: tuple[str, ...]
    exact: bool

    @staticmethod
    def of(tree: Comparison | Joined, types: Callable[[str], pa.DataType]) -> Filter:
        """Make a filter of conditions; `types` says of what type a column's values are."""
        comparisons = list(_comparisons(tree))
        columns = tuple(dict.fromkeys(one.column for one in comparisons))
        return Filter(tree, _soma(tree, types), columns, not any(one.ours for one in comparisons))

    def named(self, column: str) -> list[Any]:
        """Return the values that a column may have where the filter asks for some, each once."""
        asked = [one for one in _comparisons(self.tree) if one.column == column and one.op in ("==", "in")]
        values = [value for one in asked for value in (one.value if isinstance(one.value, tuple) else (one.value,))]
        return list(dict.fromkeys(value for value in values if value is not None))

    def passed(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows of a table that has the columns pass."""
        return _passed(self.tree, table)


def _comparisons(tree: Comparison | Joined) -> Iterator[Comparison]:
    if isinstance(tree, Comparison):
        yield tree
    else:
        for part in tree.parts:
            yield from _comparisons(part)


def _soma(tree: Comparison | Joined, types: Callable[[str], pa.DataType]) -> str | None:
    """Return a condition that all wanted cells pass, and no others where TileDB has words for that; None: all pass."""
    if isinstance(tree, Comparison):
        return None if tree.ours else tree.soma(types)
    parts = [_soma(part, types) for part in tree.parts]
    if tree.word == "or" and None in parts:
        return None
    said = [part for part in parts if part is not None]
    return f"({f' {tree.word} '.join(said)})" if said else None


def _passed(tree: Comparison | Joined, table: pa.Table) -> npt.NDArray[np.bool_]:
    if isinstance(tree, Comparison):
        return tree.passed(table)
    join = operator.and_ if tree.word == "and" else operator.or_
    out = _passed(tree.parts[0], table)
    for part in tree.parts[1:]:
        out = join(out, _passed(part, table))
    return out


def singly(values: tuple[Any, ...], kind: pa.DataType) -> frozenset[Any]:
    """Return the values of a list that tiledbsoma takes by == only: negative ones, and all of some types."""
    if kind in (pa.int16(), pa.uint8(), pa.bool_()):
        return frozenset(values)
    return frozenset(value for value in values if not isinstance(value, str) and value < 0)


def _literal(value: Any) -> str:
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return repr(value)

"""Groups of cells by columns of obs: counted some cells at a time, in memory for the groups alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import InputError, nearest

Ints = npt.NDArray[np.int64]
Key = tuple[Any, ...]

N_OBS, N_DUPLICATES = "n_obs", "n_duplicates"


class Groups:
    """Numbers the groups of cells as they come.

    Parameters
    ----------
    by
        Columns of obs; none: all cells are one group.

    Examples
    --------
    >>> groups = Groups(["assay"])
    >>> groups.of(pd.DataFrame({"assay": ["10x", "10x", "Smart-seq2"]})).tolist(), groups.keys
    ([0, 0, 1], [('10x',), ('Smart-seq2',)])
    """

    def __init__(self, by: Sequence[str]) -> None:
        self.by = tuple(by)
        self.keys: list[Key] = []
        self._numbers: dict[Key, int] = {}

    def of(self, cells: pd.DataFrame) -> Ints:
        """Return the number of each cell's group, shape (n_obs,); missing values are a group, too."""
        n = len(cells)
        local, n_local = np.zeros(n, dtype=np.int64), 1
        for name in self.by:
            codes, values = pd.factorize(cells[name], use_na_sentinel=False)
            local, found = pd.factorize(local * len(values) + codes)
            n_local = len(found)
        if not n:
            return local
        first = np.empty(n_local, dtype=np.int64)
        first[local[::-1]] = np.arange(n - 1, -1, -1)
        columns = [[_plain(one) for one in cells[name].iloc[first]] for name in self.by]
        keys = list(zip(*columns, strict=True)) if columns else [()]
        return np.array([self._number(key) for key in keys], dtype=np.int64)[local]

    def _number(self, key: Key) -> int:
        number = self._numbers.setdefault(key, len(self.keys))
        if number == len(self.keys):
            self.keys.append(key)
        return number


class Counts:
    """How many cells each group has, and how many of them are duplicates of cells elsewhere."""

    def __init__(self, by: Sequence[str]) -> None:
        self.groups = Groups(by)
        self.cells, self.duplicates = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def add(self, cells: pd.DataFrame, duplicate: npt.NDArray[np.bool_] | None = None) -> None:
        """Count further cells; `duplicate`, shape (n_obs,), says which ones are."""
        group = self.groups.of(cells)
        n = len(self.groups.keys)
        self.cells = _longer(self.cells, n) + np.bincount(group, minlength=n)
        twice = group[duplicate] if duplicate is not None else group[:0]
        self.duplicates = _longer(self.duplicates, n) + np.bincount(twice, minlength=n)

    @property
    def sizes(self) -> dict[Key, int]:
        """Cells of each group."""
        return dict(zip(self.groups.keys, self.cells.tolist(), strict=True))

    def values(self) -> dict[str, int]:
        """Return the cells of each value of the one column, most first; missing ones are left out."""
        found = sorted(((key[0], n) for key, n in self.sizes.items() if key[0] is not None), key=lambda item: -item[1])
        return {str(value): n for value, n in found}

    def table(self, duplicates: bool) -> pd.DataFrame:
        """Return a row for each group, most cells first: the columns, `n_obs`, and `n_duplicates` if they are known."""
        keys, cells, twice = self.groups.keys, self.cells.tolist(), self.duplicates.tolist()
        if not keys and not self.groups.by:
            keys, cells, twice = [()], [0], [0]
        order = sorted(range(len(keys)), key=lambda k: (-cells[k], in_order(keys[k])))
        columns: dict[str, Any] = {
            name: _column([keys[k][at] for k in order]) for at, name in enumerate(self.groups.by)
        }
        columns[N_OBS] = np.array([cells[k] for k in order], dtype=np.int64)
        if duplicates:
            columns[N_DUPLICATES] = np.array([twice[k] for k in order], dtype=np.int64)
        return pd.DataFrame(columns)


def check_by(by: str | Sequence[str] | None, names: Collection[str], what: str, where: str) -> tuple[str, ...]:
    """Return columns to group by, or raise `InputError` if one is not there or named twice."""
    if not isinstance(by, (str, Iterable, NoneType)):
        raise InputError(f"{what}: by={by!r:.100} is no name of a column, and no list of names")
    wanted = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    for name in wanted:
        if name not in names:
            raise InputError(f"{what}: by={name!r}, which {where} has not; {nearest(str(name), names)}")
        if wanted.count(name) > 1:
            raise InputError(f"{what}: by has {name!r} twice")
    return wanted


def in_order(key: Key) -> tuple[tuple[bool, Any], ...]:
    """Return what puts groups in an order that does not depend on the order of cells: missing values last."""
    return tuple((one is None, isinstance(one, str), "" if one is None else one) for one in key)  # type: ignore[misc]


def shown(by: Sequence[str], key: Key) -> str:
    """Return a group in words."""
    return ", ".join(f"{name} {value!r}" for name, value in zip(by, key, strict=True)) or "all cells"


def _plain(value: Any) -> Any:
    """Return a value of a column as one of Python's; None if it is missing."""
    return None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value


def _column(values: list[Any]) -> pd.Series[Any]:
    """Return a column; one with missing values holds what it held, and None."""
    return pd.Series(values, dtype=object) if None in values else pd.Series(values)


def _longer(values: Ints, n: int) -> Ints:
    return np.concatenate([values, np.zeros(n - len(values), dtype=np.int64)])

"""Which columns of `obs` have one value in every group."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Integers = npt.NDArray[np.int64]


class Constants:
    """Follows columns of `obs` until one of them has two values in a group that is large enough to matter.

    Parameters
    ----------
    min_cells
        Groups that end up smaller do not matter.
    """

    def __init__(self, min_cells: int) -> None:
        self.min_cells = min_cells
        self.columns: dict[str, _Column] | None = None

    def update(self, obs: pd.DataFrame, first: Integers, group: Integers, numbers: Integers, n_cells: Integers) -> None:
        """Add some cells.

        Parameters
        ----------
        obs
            The columns to follow; the same at each call.
        first, group
            Where each group of these cells comes first, and the group of each cell, or -1.
        numbers
            The groups' lasting numbers.
        n_cells
            Cells so far of all groups, by lasting number.
        """
        if self.columns is None:
            self.columns = {name: _Column() for name in obs}
        member = group >= 0
        for name, column in self.columns.items():
            if column.alive:
                codes = pd.factorize(obs[name], use_na_sentinel=True)[0]
                differs = member & (codes != codes[first][group])
                mixed = np.bincount(group[differs], minlength=len(first)) > 0
                column.take(obs[name].iloc[first].tolist(), mixed, numbers)
                column.settle(n_cells >= self.min_cells)

    def merge(self, other: Constants, numbers: Integers, n_cells: Integers) -> None:
        """Add all that `other` has seen, whose group i is number `numbers[i]` here."""
        if other.columns is None:
            return
        if self.columns is None:
            self.columns = {name: _Column() for name in other.columns}
        for name, column in self.columns.items():
            theirs = other.columns[name]
            column.alive &= theirs.alive
            if column.alive:
                known = [at for at, value in enumerate(theirs.values) if value is not _NEVER]
                column.take([theirs.values[at] for at in known], theirs.mixed[known], numbers[known])
                column.settle(n_cells >= self.min_cells)

    def result(self, n_groups: int) -> dict[str, list[Any]]:
        """Return the values by group of the columns that are constant; in small groups, one of their values or None."""
        columns = self.columns or {}
        return {
            name: [None if mixed else value for value, mixed in zip(column.values, column.mixed, strict=True)]
            for name, column in columns.items()
            if column.alive and len(column.values) == n_groups
        }


_NEVER = object()


class _Column:
    """One value per group, and whether there was another."""

    def __init__(self) -> None:
        self.alive = True
        self.values: list[Any] = []
        self.mixed = np.zeros(0, dtype=bool)

    def take(self, values: list[Any], mixed: npt.NDArray[np.bool_], numbers: Integers) -> None:
        """Compare with what the groups had before."""
        more = int(numbers.max(initial=-1)) + 1 - len(self.values)
        if more > 0:
            self.values.extend([_NEVER] * more)
            self.mixed = np.pad(self.mixed, (0, more))
        for value, other, number in zip(values, mixed, numbers.tolist(), strict=True):
            before = self.values[number]
            if before is _NEVER:
                self.values[number] = value
            if other or (before is not _NEVER and not _same(before, value)):
                self.mixed[number] = True

    def settle(self, large: npt.NDArray[np.bool_]) -> None:
        """Stop if a group that matters has two values."""
        self.alive = not (self.mixed & large[: len(self.mixed)]).any()


def _same(left: Any, right: Any) -> bool:
    """Compare two values; a missing one equals another missing one."""
    return bool(left == right) if not (pd.isna(left) or pd.isna(right)) else bool(pd.isna(left) and pd.isna(right))

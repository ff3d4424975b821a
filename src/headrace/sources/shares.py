"""How many cells of each group a sample takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..errors import InputError
from .groups import Key, in_order


@dataclass(frozen=True)
class Request:
    """What was asked of a sample: one of `n`, `fraction` and `per_group`.

    Parameters
    ----------
    by
        Columns of obs that make the groups; none: all cells are one.
    n, fraction
        Cells of all groups together, or their part of all cells of these groups, rounded to the nearest whole number.
    per_group
        Cells of each group.
    balanced
        Whether each group gives as many as any other, as far as it has them; else by its size.
    min_per_group
        What a group has at least in the sample; one of fewer cells is left out.
    seed
        Another one gives other cells.

    Examples
    --------
    >>> sizes = {("B cell",): 90, ("T cell",): 10}
    >>> Request(("cell_type",), n=30).shares(sizes, "obs")[0]
    {('B cell',): 27, ('T cell',): 3}
    >>> Request(("cell_type",), n=30, balanced=True).shares(sizes, "obs")[0]
    {('B cell',): 20, ('T cell',): 10}
    """

    by: tuple[str, ...] = ()
    n: int | None = None
    fraction: float | None = None
    per_group: int | None = None
    balanced: bool = False
    min_per_group: int | None = None
    seed: int = 0

    def asked(self) -> dict[str, Any]:
        """Return what differs from its default, in plain values, and the seed."""
        said = {name: value for name, value in vars(self).items() if value not in (None, (), False) or name == "seed"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    def shares(self, sizes: Mapping[Key, int], where: str) -> tuple[dict[Key, int], list[Key]]:
        """Return how many cells are taken of each group, and the groups that have fewer than was asked for.

        Raises
        ------
        InputError
            If there are fewer cells than are asked for, or no group is left.
        """
        keys = sorted(sizes, key=in_order)
        least = self.min_per_group or 0
        there = {key: sizes[key] for key in keys if sizes[key] >= least}
        if not there:
            raise InputError(
                f"sample: no group of {where} has min_per_group={least} cells; the largest has "
                f"{max(sizes.values(), default=0):,}"
            )
        if self.per_group is not None:
            wanted = max(self.per_group, least)
            shares = {key: min(wanted, n) for key, n in there.items()}
        else:
            total = self._total(sum(there.values()))
            if total > sum(there.values()):
                left = " in groups that are large enough" if len(there) < len(sizes) else ""
                raise InputError(f"sample: n={total:,}, but {where} has {sum(there.values()):,} cells{left}")
            if total < sum(min(least, n) for n in there.values()):
                raise InputError(
                    f"sample: {total:,} cells do not do for min_per_group={least} of {len(there)} groups; "
                    "ask for more, or for fewer of each"
                )
            shares = _even(there, total) if self.balanced else _by_size(there, total, least)
        enough = self.least_wanted(sizes)
        small = [key for key in keys if sizes[key] < enough]
        return {key: shares.get(key, 0) for key in keys}, small

    def least_wanted(self, sizes: Mapping[Key, int]) -> int:
        """Return how many cells were asked for of each group; 0 if none are."""
        if self.per_group is not None:
            return max(self.per_group, self.min_per_group or 0)
        if self.balanced:
            there = [n for n in sizes.values() if n >= (self.min_per_group or 0)]
            return max(self._total(sum(there)) // max(1, len(there)), self.min_per_group or 0)
        return self.min_per_group or 0

    @property
    def fate(self) -> str:
        """What became of small groups, in words."""
        if self.min_per_group is None:
            return "and give all they have"
        return f"and give all they have, or nothing if they have fewer than {self.min_per_group:,}"

    def _total(self, n_obs: int) -> int:
        if self.n is not None:
            return self.n
        assert self.fraction is not None
        return int(Fraction(str(self.fraction)) * n_obs + Fraction(1, 2))


def _by_size(sizes: Mapping[Key, int], total: int, least: int) -> dict[Key, int]:
    """Share a number out by the sizes of groups: the largest remainders get the rest, and none gets below `least`."""
    fixed: dict[Key, int] = {}
    while True:
        free = {key: n for key, n in sizes.items() if key not in fixed}
        rest, among = total - sum(fixed.values()), sum(free.values())
        low = [key for key, n in free.items() if rest * n < least * among]
        if not low:
            break
        fixed |= dict.fromkeys(low, least)
    shares = {key: rest * n // among for key, n in free.items()}
    first = sorted(free, key=lambda key: -(rest * free[key] % among))  # stable: of equal ones the first group
    for key in first[: rest - sum(shares.values())]:
        shares[key] += 1
    return {key: fixed.get(key, shares.get(key, 0)) for key in sizes}


def _even(sizes: Mapping[Key, int], total: int) -> dict[Key, int]:
    """Share a number out evenly: small groups give all they have, the others one more or less than each other."""
    shares: dict[Key, int] = {}
    for place, key in enumerate(_smallest_first(sizes)):
        rest, groups = total - sum(shares.values()), len(sizes) - place
        shares[key] = min(sizes[key], rest // groups)
    return {key: shares[key] for key in sizes}


def _smallest_first(sizes: Mapping[Key, int]) -> Sequence[Key]:
    return sorted(sizes, key=lambda key: sizes[key])

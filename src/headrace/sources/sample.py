"""A sample of cells: exact sizes, the same cells for one seed wherever and however they are read.

Each cell has a rank: a hash of the seed and of its number. Of a group those with the lowest ranks are taken, so that a
sample is known by one rank for each group, and no list of cells is ever shuffled or held.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import InputError, SourceError
from .groups import Groups, Key, shown
from .shares import Request

Ints = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.uint64]
Cells = Callable[[], Iterator[tuple[Ints, pd.DataFrame]]]
"""Yields numbers of cells, shape (n,), and their columns to group by; asked again, the same ones."""

MASK, STEP = (1 << 64) - 1, 0x9E3779B97F4A7C15
NAMED = 10
"""Groups that a warning names."""


class SmallGroupsWarning(UserWarning):
    """Groups of a sample have fewer cells than were asked for.

    Examples
    --------
    >>> import tempfile, warnings, headrace as hr, headrace.testing
    >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
    >>> mouse = census.query("mus_musculus")
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     some = mouse.sample(by="dataset_id", per_group=600)
    >>> print(told[0].message)
    1 of 2 groups have fewer cells than were asked for of each (600), ...
    """


@dataclass(frozen=True)
class Sample:
    """Some cells of each group: those with the lowest ranks.

    Parameters
    ----------
    request
        What was asked for.
    limits
        The highest rank that is taken of each group; of other groups none is.
    sizes
        Cells of each group, and how many of them are taken.
    """

    request: Request
    limits: Mapping[Key, int] = field(repr=False, hash=False)
    sizes: Mapping[Key, tuple[int, int]] = field(repr=False, hash=False)

    @property
    def by(self) -> tuple[str, ...]:
        """Columns of obs that make the groups."""
        return self.request.by

    @property
    def n_obs(self) -> int:
        """Cells that are taken."""
        return sum(taken for _, taken in self.sizes.values())

    @property
    def of(self) -> int:
        """Cells that they are taken from."""
        return sum(n for n, _ in self.sizes.values())

    def chosen(self, numbers: Ints, cells: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which cells are taken, shape (n,), given their numbers and the columns to group by."""
        groups = Groups(self.by)
        group = groups.of(cells)
        limits = np.array([self.limits.get(key, -1) for key in groups.keys], dtype=object)
        taken = np.array([limit >= 0 for limit in limits], dtype=bool)
        highest = np.array([max(0, limit) for limit in limits], dtype=np.uint64)
        return np.asarray(taken[group] & (ranks(numbers, self.request.seed) <= highest[group]))

    def provenance(self) -> dict[str, Any]:
        """Say what was asked for and what it gave, in plain values."""
        return {**self.request.asked(), "n_obs_before": self.of, "n_obs": self.n_obs}


def ranks(numbers: Ints, seed: int) -> Ranks:
    """Return a rank for each cell: splitmix64, which gives no two numbers the same.

    Source: Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators; whole numbers only, so that it is
    the same on every machine.

    Examples
    --------
    >>> bool(ranks(np.array([1, 2]), 0)[0] == ranks(np.array([1]), 0)[0])
    True
    """
    start = _mixed(np.array([(seed + STEP) & MASK], dtype=np.uint64))  # never 0, for which 2 i has twice the rank of i
    with np.errstate(over="ignore"):
        return _mixed(numbers.astype(np.int64).view(np.uint64) * np.uint64(STEP) + start)


def _mixed(z: Ranks) -> Ranks:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def draw(sizes: Mapping[Key, int], cells: Cells, request: Request, where: str) -> Sample:
    """Choose a sample.

    Parameters
    ----------
    sizes
        Cells of each group.
    cells
        Where to read them.
    request
        What is asked for.
    where
        What they are cells of, in messages.

    Raises
    ------
    InputError
        If more is asked for than there is.

    Warns
    -----
    SmallGroupsWarning
        If a group has fewer cells than its share, or is left out since it has too few.
    """
    shares, small = request.shares(sizes, where)
    if small:
        named = "; ".join(f"{shown(request.by, key)} {sizes[key]:,}" for key in small[:NAMED])
        more = f"; and {len(small) - NAMED} more" if len(small) > NAMED else ""
        warnings.warn(
            f"{len(small)} of {len(sizes)} groups have fewer cells than were asked for of each "
            f"({request.least_wanted(sizes):,}), {request.fate}: {named}{more}",
            SmallGroupsWarning,
            stacklevel=4,
        )
    limits = _limits(shares, sizes, cells, request)
    return Sample(request, limits, {key: (n, shares[key]) for key, n in sizes.items()})


def _limits(shares: Mapping[Key, int], sizes: Mapping[Key, int], cells: Cells, request: Request) -> dict[Key, int]:
    """Find the rank of the last cell that is taken of each group.

    How many ranks lie below any value is known but for chance, so that only the cells near the value are held: some of
    the square root of all. Should a group be outside, as one in 10^9 is, its cells are read again.
    """
    limits = {key: MASK for key, taken in shares.items() if taken and taken == sizes[key]}
    searched = [key for key, taken in shares.items() if 0 < taken < sizes[key]]
    for spread in (6.0, 40.0, float("inf")):
        if not searched:
            break
        windows = {key: _window(shares[key], sizes[key], spread) for key in searched}
        found = _near(windows, cells, request)
        for key, (below, near) in found.items():
            k = shares[key] - below - 1
            if 0 <= k < len(near):
                limits[key] = int(np.partition(near, k)[k])
        searched = [key for key in searched if key not in limits]
    if searched:
        raise SourceError("obs changed while it was read: a group has fewer cells than were counted")
    return limits


def _window(taken: int, n: int, spread: float) -> tuple[int, int]:
    """Return between which ranks the last one of `taken` cells of n lies, but for `spread` standard deviations."""
    if spread == float("inf"):
        return 0, MASK
    share = taken / n
    about = (spread * sqrt(n * share * (1 - share)) + spread) / n
    low, high = max(0.0, share - about), min(1.0, share + about)
    return int(low * MASK), MASK if high == 1.0 else int(high * MASK)


def _near(windows: Mapping[Key, tuple[int, int]], cells: Cells, request: Request) -> dict[Key, tuple[int, Ranks]]:
    """Return how many ranks of each group are below its window, and those within it."""
    groups = Groups(request.by)
    below = np.zeros(0, dtype=np.int64)
    near: list[tuple[Ints, Ranks]] = []
    for numbers, columns in cells():
        group = groups.of(columns)
        bounds = [windows.get(key, (MASK, 0)) for key in groups.keys]
        low, high = np.array(bounds, dtype=np.uint64).reshape(-1, 2).T
        rank = ranks(numbers, request.seed)
        under = rank < low[group]
        below = np.concatenate([below, np.zeros(len(groups.keys) - len(below), dtype=np.int64)])
        below += np.bincount(group[under], minlength=len(below))
        inside = ~under & (rank <= high[group])
        near.append((group[inside], rank[inside]))
    group = np.concatenate([one for one, _ in near]) if near else np.zeros(0, dtype=np.int64)
    rank = np.concatenate([one for _, one in near]) if near else np.zeros(0, dtype=np.uint64)
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(len(groups.keys) + 1))
    return {
        key: (int(below[k]), rank[order[ends[k] : ends[k + 1]]]) for k, key in enumerate(groups.keys) if key in windows
    }


def request_of(
    by: Sequence[str],
    n: int | None,
    fraction: float | None,
    per_group: int | None,
    balanced: bool,
    min_per_group: int | None,
    seed: int,
) -> Request:
    """Check what is asked of a sample; raise `InputError` if it makes no sense."""
    given = [name for name, one in (("n", n), ("fraction", fraction), ("per_group", per_group)) if one is not None]
    if len(given) != 1:
        said = f"it has {' and '.join(given)}" if given else "it has none of them"
        raise InputError(f"sample takes one of n, fraction and per_group: {said}")
    for name, one in (("n", n), ("per_group", per_group), ("min_per_group", min_per_group), ("seed", seed)):
        if one is not None and (isinstance(one, bool) or not isinstance(one, int | np.integer)):
            raise InputError(f"sample: {name}={one!r} is no whole number")
        if one is not None and one < 1 and name != "seed":
            raise InputError(f"sample: {name}={one!r}; at least 1")
    is_number = isinstance(fraction, Real) and not isinstance(fraction, bool | np.bool_)
    if fraction is not None and not (is_number and 0 < fraction <= 1):
        raise InputError(f"sample: fraction={fraction!r} is not above 0 and at most 1; a number of cells is n=")
    grouped = {"per_group": per_group is not None, "balanced": balanced, "min_per_group": min_per_group is not None}
    for name, asked in grouped.items():
        if asked and not by:
            raise InputError(f"sample: {name} is of groups; name the columns that make them with by=")
    return Request(
        tuple(by),
        None if n is None else int(n),
        None if fraction is None else float(fraction),
        None if per_group is None else int(per_group),
        bool(balanced),
        None if min_per_group is None else int(min_per_group),
        int(seed),
    )

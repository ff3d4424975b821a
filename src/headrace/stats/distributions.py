"""Distributions of numbers of cells, in bins that are fixed before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk, Limit
from ..protocols import Accumulator
from ..support.columns import floats
from .cells import library_sizes

LOG_EDGES = np.array([float(f"{10 ** (k / 20):.6g}") for k in range(-120, 241)])
"""Edges of the bins of counts: 20 a decade, from 1e-6 to 1e12; six digits, so that they are the same everywhere."""

PERCENT_EDGES = np.arange(0.0, 101.0)
"""Edges of the bins of percentages."""

LOGGED_EDGES = np.arange(0.0, 301.0) / 10
"""Edges of the bins of logarithms (`log1p_...`)."""

FROM_X = ("n_counts", "n_genes")
"""Measures that are not columns of `obs` but are taken from X: a cell's total, and its genes above zero."""


def edges_of(measure: str) -> npt.NDArray[np.float64]:
    """Return the edges of the bins of a measure, by its name."""
    if measure.startswith("log1p_"):
        return LOGGED_EDGES
    return PERCENT_EDGES if measure.startswith("pct_") else LOG_EDGES


def places(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the bin of each value: i for the one that begins with edge i, -1 for what is below all."""
    return np.minimum(np.searchsorted(edges, values, side="right"), len(edges)).astype(np.int64) - 1


def measured(chunk: Chunk, measure: str) -> npt.NDArray[np.float64]:
    """Return a measure of every cell, shape (n_obs,), NaN where one is missing."""
    if measure == "n_counts":
        return library_sizes(chunk.X)
    if measure == "n_genes":
        X = chunk.X
        n = np.count_nonzero(X > 0, axis=1) if isinstance(X, np.ndarray) else np.diff(X.indptr)
        return np.asarray(n, dtype=np.float64)
    return floats(chunk.column(measure))


class Distributions(Accumulator[dict[str, Any]]):
    """Counts cells by bins of each of some measures.

    The result maps a measure to `bins` (pairs of a bin's number and its cells, those without cells left out), the
    number of cells in which it is `missing`, and the `least` and `most` value.
    """

    def __init__(self, measures: Sequence[str]) -> None:
        self.measures = tuple(measures)
        self.counts = {name: np.zeros(len(edges_of(name)) + 1, dtype=np.int64) for name in self.measures}
        self.missing = dict.fromkeys(self.measures, 0)
        self.least = dict.fromkeys(self.measures, np.inf)
        self.most = dict.fromkeys(self.measures, -np.inf)

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """The measures that are columns of `obs`."""
        return tuple(name for name in self.measures if name not in FROM_X)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        for name in self.measures:
            values = measured(chunk, name)
            there = values[~np.isnan(values)]
            self.missing[name] += len(values) - len(there)
            if len(there):
                self.counts[name] += np.bincount(places(there, edges_of(name)) + 1, minlength=len(self.counts[name]))
                self.least[name] = min(self.least[name], float(there.min()))
                self.most[name] = max(self.most[name], float(there.max()))

    def merge(self, other: Distributions) -> None:
        """Add all that `other` has seen."""
        for name in self.measures:
            self.counts[name] += other.counts[name]
            self.missing[name] += other.missing[name]
            self.least[name] = min(self.least[name], other.least[name])
            self.most[name] = max(self.most[name], other.most[name])

    def keep(self, genes: npt.NDArray[np.bool_]) -> Distributions:
        """Return the same: what is taken from `obs` does not depend on genes."""
        assert len(self.reads_obs) == len(self.measures), "what is taken from X depends on them"
        del genes
        return self

    def result(self) -> dict[str, Any]:
        """Return the distributions as plain data."""
        out = {}
        for name, counts in self.counts.items():
            seen = bool(counts.any())
            out[name] = {
                "bins": pairs(counts, -1),
                "missing": int(self.missing[name]),
                "least": self.least[name] if seen else None,
                "most": self.most[name] if seen else None,
            }
        return out


class FirstFailed(Accumulator[list[int]]):
    """Counts for each of some limits the cells that it is the first to keep out; the result is in their order."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.limits = tuple(limits)
        self.counts = np.zeros(len(self.limits), dtype=np.int64)

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """The columns of `obs` that have limits."""
        return tuple(limit.measure for limit in self.limits if limit.measure not in FROM_X)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        left = np.ones(chunk.n_obs, dtype=bool)
        for number, limit in enumerate(self.limits):
            values = measured(chunk, limit.measure)
            kept = np.ones(len(values), dtype=bool)
            if limit.low is not None:
                kept &= values >= limit.low
            if limit.high is not None:
                kept &= values <= limit.high
            self.counts[number] += np.count_nonzero(left & ~kept)
            left &= kept

    def merge(self, other: FirstFailed) -> None:
        """Add all that `other` has seen."""
        self.counts += other.counts

    def keep(self, genes: npt.NDArray[np.bool_]) -> FirstFailed:
        """Return the same: what is taken from `obs` does not depend on genes."""
        assert len(self.reads_obs) == len(self.limits), "what is taken from X depends on them"
        del genes
        return self

    def result(self) -> list[int]:
        """Return the number of cells of each limit."""
        return [int(n) for n in self.counts]


class CellsOfValues(Accumulator[dict[str, Any]]):
    """Counts the cells, and those of each value of some columns of `obs`."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.n = 0
        self.by: dict[str, dict[str, int]] = {name: {} for name in self.columns}

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """The columns."""
        return self.columns

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        self.n += chunk.n_obs
        for name in self.columns:
            codes, values = _coded(chunk.column(name))
            found = np.bincount(codes[codes >= 0], minlength=len(values))
            self._add(name, {str(values[i]): int(found[i]) for i in np.flatnonzero(found)})

    def _add(self, name: str, found: Mapping[str, int]) -> None:
        for value, n in found.items():
            self.by[name][value] = self.by[name].get(value, 0) + n

    def merge(self, other: CellsOfValues) -> None:
        """Add all that `other` has seen."""
        self.n += other.n
        for name in self.columns:
            self._add(name, other.by[name])

    def keep(self, genes: npt.NDArray[np.bool_]) -> CellsOfValues:
        """Return the same: genes do not matter."""
        del genes
        return self

    def result(self) -> dict[str, Any]:
        """Return the number of cells, and those of each value, most first."""
        by = {name: dict(sorted(found.items(), key=lambda one: (-one[1], one[0]))) for name, found in self.by.items()}
        return {"n": self.n, "by": by}


def _coded(column: pd.Series) -> tuple[npt.NDArray[np.int64], pd.Index]:
    """Return the number of each cell's value, -1 where it has none, and the values."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes, dtype=np.int64), column.cat.categories
    codes, values = pd.factorize(column, use_na_sentinel=True)
    return codes.astype(np.int64), pd.Index(values)


def pairs(counts: npt.NDArray[np.int64], first: int = 0) -> list[list[int]]:
    """Return the bins that have something as pairs of their number, which begins at `first`, and what they have."""
    return [[int(i) + first, int(counts[i])] for i in np.flatnonzero(counts)]

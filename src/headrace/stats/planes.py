"""Cells in a plane, by bins: what a scatter plot of millions of points would show."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk
from ..protocols import Accumulator
from .distributions import FROM_X, edges_of, measured, places

MOST = 64
"""Bins a side of a grid, at most."""

FINEST, COARSEST = -30, 60


class Together(Accumulator[list[list[int]]]):
    """Counts cells by bins of two measures at once; the result has triples: bin of one, of the other, cells."""

    def __init__(self, first: str, second: str) -> None:
        self.first, self.second = first, second
        self.cells: dict[tuple[int, int], int] = {}

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """The measures that are columns of `obs`."""
        return tuple(name for name in (self.first, self.second) if name not in FROM_X)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        x, y = (measured(chunk, name) for name in (self.first, self.second))
        there = ~(np.isnan(x) | np.isnan(y))
        at = np.stack([places(x[there], edges_of(self.first)), places(y[there], edges_of(self.second))], axis=1)
        _count(self.cells, at)

    def merge(self, other: Together) -> None:
        """Add all that `other` has seen."""
        _add(self.cells, other.cells)

    def result(self) -> list[list[int]]:
        """Return the bins that have cells, in order."""
        return [[i, j, self.cells[i, j]] for i, j in sorted(self.cells)]


class Grid(Accumulator[dict[str, Any]]):
    """Counts cells by squares of the first two columns of an array of `obsm`, whose range nobody knows before.

    The side of a square is a power of two, and squares begin at multiples of it: four squares make one of twice the
    side. The side is the least for which no more than `MOST` squares lie side by side, so it depends on the cells
    alone, and not on the order in which they come.
    """

    reads_obs = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.level = FINEST
        self.cells: dict[tuple[int, int], int] = {}
        self.low = np.full(2, np.inf)
        self.high = np.full(2, -np.inf)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        xy = np.asarray(chunk.obsm[self.name][:, :2], dtype=np.float64)
        xy = xy[np.isfinite(xy).all(axis=1)]
        if len(xy):
            self._reach(xy.min(axis=0), xy.max(axis=0))
            _count(self.cells, np.floor(np.ldexp(xy, -self.level)).astype(np.int64))

    def merge(self, other: Grid) -> None:
        """Add all that `other` has seen."""
        if other.cells:
            self._reach(other.low, other.high)
            _add(self.cells, _coarser(other.cells, self.level - other.level))

    def keep(self, genes: npt.NDArray[np.bool_]) -> Grid:
        """Return the same: genes do not matter."""
        del genes
        return self

    def _reach(self, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> None:
        """Make squares as large as points so far apart need."""
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        level = self.level
        while level < COARSEST and self._squares(level) > MOST:
            level += 1
        self.cells, self.level = _coarser(self.cells, level - self.level), level

    def _squares(self, level: int) -> float:
        return float((np.floor(np.ldexp(self.high, -level)) - np.floor(np.ldexp(self.low, -level))).max()) + 1

    def result(self) -> dict[str, Any]:
        """Return the side of a square, and triples: column and row of a square, its cells."""
        return {
            "side": float(np.ldexp(1.0, self.level)),
            "cells": [[i, j, self.cells[i, j]] for i, j in sorted(self.cells)],
        }


def _count(cells: dict[tuple[int, int], int], at: npt.NDArray[np.int64]) -> None:
    """Add points, shape (n, 2), to the squares that they are in."""
    found, n = np.unique(at, axis=0, return_counts=True)
    for (i, j), k in zip(found.tolist(), n.tolist(), strict=True):
        cells[i, j] = cells.get((i, j), 0) + k


def _add(cells: dict[tuple[int, int], int], other: dict[tuple[int, int], int]) -> None:
    for at, k in other.items():
        cells[at] = cells.get(at, 0) + k


def _coarser(cells: dict[tuple[int, int], int], levels: int) -> dict[tuple[int, int], int]:
    """Return the same cells in squares of 2**levels the side."""
    if levels <= 0:
        return cells
    out: dict[tuple[int, int], int] = {}
    for (i, j), k in cells.items():
        _add(out, {(i >> levels, j >> levels): k})
    return out

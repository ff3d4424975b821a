"""Tests of every gene between groups of cells, by scanpy's formulas."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from .exact import variance
from .moments import as_float

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Moments of some cells.

    Parameters
    ----------
    n
        How many they are.
    words
        Shape (genes, 5); see `kernels.entries`.
    """

    n: int
    words: npt.NDArray[np.uint64]

    @property
    def mean(self) -> Floats:
        """Mean of every gene."""
        return as_float(self.words[:, :2]) / self.n

    @property
    def var(self) -> Floats:
        """Variance with n - 1; 0 for one cell, as in scanpy."""
        return variance(self.words, self.n) if self.n > 1 else np.zeros(len(self.words))

    @property
    def fraction(self) -> Floats:
        """In which part of the cells the gene is not zero."""
        return np.asarray(self.words[:, 4] / self.n)


def t_test(group: Sample, rest: Sample, n_rest: int) -> tuple[Floats, Floats]:
    """Return t and p of Welch's test, as if the rest were `n_rest` cells; 0 and 1 where nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = group.var / group.n, rest.var / n_rest
        freedom = (a + b) ** 2 / (a**2 / (group.n - 1) + b**2 / (n_rest - 1))
        freedom = np.where(np.isnan(freedom), 1.0, freedom)
        scores = (group.mean - rest.mean) / np.sqrt(a + b)
        p = 2.0 * special.stdtr(freedom, -np.abs(scores))
    return np.where(np.isnan(scores), 0.0, scores), np.where(np.isnan(p), 1.0, p)


def wilcoxon(sums: Floats, ties: Floats | None, n: int, n_rest: int) -> tuple[Floats, Floats]:
    """Return z and p of the rank-sum test.

    Parameters
    ----------
    sums
        Of the ranks of the group's cells, shape (genes,).
    ties
        Sums of t**3 - t, shape (genes,); None not to correct for ties.
    n, n_rest
        Cells of the group, and of the others.
    """
    both = n + n_rest
    correction: Any = 1.0 if ties is None else 1.0 - ties / (float(both) ** 3 - both)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(correction * n * n_rest * (both + 1) / 12.0)
        scores = (sums - n * ((both + 1) / 2.0)) / spread
    scores = np.where(np.isnan(scores), 0.0, scores)
    return scores, 2.0 * special.ndtr(-np.abs(scores))


def adjusted(p: Floats, method: str) -> Floats:
    """Return p-values corrected for many tests: "benjamini-hochberg" or "bonferroni".

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, 0.03]), "benjamini-hochberg")
    array([0.03, 0.04, 0.04])
    """
    if method == "bonferroni":
        return np.minimum(p * len(p), 1.0)
    order = np.argsort(p, kind="stable")
    raw = p[order] / (np.arange(1, len(p) + 1) / len(p))
    out = np.empty_like(p)
    out[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
    return out


def log_fold_change(mean: Floats, rest: Floats, base: float | None) -> Floats:
    """Return log2 of the ratio of un-logged means of logs, as scanpy; `base` is that of the logarithm, None is e."""
    factor = 1.0 if base is None else log(base)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.log2((np.expm1(mean * factor) + 1e-9) / (np.expm1(rest * factor) + 1e-9)))

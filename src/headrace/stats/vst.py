"""Standardized variance: how much a gene varies beyond the trend of its mean (Stuart et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bygroup import Floats, GroupMoments
from .loess import CannotFitError, trend


@dataclass(frozen=True)
class Expected:
    """What is expected of each gene of one group, in little memory: there may be hundreds of groups.

    Parameters
    ----------
    log_var
        log10 of the variance by the trend, of the genes that vary, in order.
    jitter
        Largest change of a log10 mean that the fit needed.
    """

    log_var: Floats
    jitter: float

    def std(self, moments: GroupMoments) -> Floats:
        """Return the expected standard deviation, shape (genes,); 1 for genes that do not vary."""
        log_var = np.zeros(len(moments.total))
        log_var[moments.var > 0] = self.log_var
        return np.asarray(np.sqrt(10**log_var))

    def cap(self, moments: GroupMoments) -> Floats:
        """Return what counts are clipped to, shape (genes,)."""
        return np.asarray(self.std(moments) * np.sqrt(moments.n) + moments.mean)


def expected(moments: GroupMoments, span: float) -> Expected:
    """Fit the standard deviation of counts on their mean, both in log10, over the genes that vary.

    Raises
    ------
    CannotFitError
        If there is no such trend.
    """
    mean, var = moments.mean, moments.var
    varies = var > 0
    if not varies.any():
        raise CannotFitError("no gene varies")
    fit = trend(np.log10(mean[varies]), np.log10(var[varies]), span)
    return Expected(fit.fitted, fit.jitter)


def standardized_variance(moments: GroupMoments, clip: GroupMoments, std: Floats) -> Floats:
    """Return the variance of the clipped, standardised counts, shape (genes,), in scanpy's order of operations.

    Parameters
    ----------
    moments, clip
        Of the counts as they are, and clipped.
    std
        The expected standard deviation.
    """
    n = moments.n
    mean = moments.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        out = (1 / ((n - 1) * np.square(std))) * (n * np.square(mean) + clip.squares - 2 * clip.total * mean)
    return np.asarray(np.where(np.asarray(n) > 1, out, 0.0), dtype=np.float64)

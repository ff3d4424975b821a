"""Highly variable genes from mean and variance, for programs that compute only those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from job import N_TOP_GENES

Array = np.ndarray[Any, Any]


def seurat(mean: Array, var: Array) -> Array:
    """Return which genes have the highest dispersion among those of similar mean, as scanpy's flavor "seurat".

    `mean` and `var` (ddof 1) are of normalised values before the logarithm.
    """
    mean = np.where(mean == 0, 1e-12, mean)
    dispersion = var / mean
    dispersion[dispersion == 0] = np.nan
    table = pd.DataFrame({"mean": np.log1p(mean), "dispersion": np.log(dispersion)})
    bins = table.groupby(pd.cut(table["mean"], 20), observed=True)["dispersion"]
    center, spread = bins.transform("mean"), bins.transform("std")
    alone = spread.isna()
    score = ((table["dispersion"] - center.mask(alone, 0)) / spread.mask(alone, center)).to_numpy()
    return np.asarray(np.nan_to_num(score, nan=-np.inf) >= np.sort(score[~np.isnan(score)])[-N_TOP_GENES])


def expected_std(mean: Array, var: Array) -> Array:
    """Return the standard deviation that genes of this mean have, as flavor "seurat_v3": loess over the counts."""
    from skmisc.loess import loess

    varies = var > 0
    trend = loess(np.log10(mean[varies]), np.log10(var[varies]), span=0.3, degree=2)
    trend.fit()
    std = np.ones(len(mean))
    std[varies] = np.sqrt(10**trend.outputs.fitted_values)
    return std


def seurat_v3(mean: Array, std: Array, clipped: Array, clipped_squares: Array, n: int) -> Array:
    """Return which genes vary most beside their trend, from sums of clipped counts over `n` cells."""
    score = (n * mean**2 + clipped_squares - 2 * clipped * mean) / ((n - 1) * std**2)
    score[mean == 0] = 0
    chosen = np.zeros(len(mean), dtype=bool)
    chosen[np.argsort(-score, kind="stable")[:N_TOP_GENES]] = True
    return chosen

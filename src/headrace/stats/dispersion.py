"""Dispersion of genes among genes of similar mean: the flavors "seurat" and "cell_ranger"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cutoffs:
    """Bounds on mean and normalised dispersion, both exclusive, as in scanpy."""

    min_mean: float = 0.0125
    max_mean: float = 3.0
    min_disp: float = 0.5
    max_disp: float = float("inf")

    def within(self, mean: Floats, dispersion_norm: Floats) -> npt.NDArray[np.bool_]:
        """Return which genes are within the bounds, shape (genes,); NaN counts as 0."""
        disp = np.nan_to_num(dispersion_norm)
        return (mean > self.min_mean) & (mean < self.max_mean) & (disp > self.min_disp) & (disp < self.max_disp)


def dispersion_table(mean: Floats, var: Floats, flavor: str, n_bins: int) -> pd.DataFrame:
    """Compute dispersions and normalise them within bins of the mean.

    Parameters
    ----------
    mean, var
        Of un-logged values for "seurat", of logged ones for "cell_ranger"; shape (genes,).
    flavor
        "seurat" (Satija et al. 2015): equal-width bins of log mean, z-score of log dispersion.
        "cell_ranger" (Zheng et al. 2017): bins at percentiles, median and MAD.
    n_bins
        Number of bins, for "seurat".

    Returns
    -------
    DataFrame with columns means, dispersions, dispersions_norm, one row per gene.
    Follows `scanpy.pp.highly_variable_genes` step by step.
    """
    mean = np.where(mean == 0, 1e-12, mean)
    dispersion = var / mean
    if flavor == "seurat":
        with np.errstate(divide="ignore", invalid="ignore"):
            dispersion = np.log(np.where(dispersion == 0, np.nan, dispersion))
        mean = np.log1p(mean)
        bins = pd.cut(mean, bins=n_bins)
    else:
        edges = np.percentile(mean, np.arange(10, 105, 5))
        bins = pd.cut(mean, bins=np.r_[-np.inf, np.unique(edges), np.inf])
    table = pd.DataFrame({"means": mean, "dispersions": dispersion, "bin": bins.codes})
    grouped = table.groupby("bin")["dispersions"]
    if flavor == "seurat":
        centre, spread = grouped.mean(), grouped.std()
        alone = spread.isna()  # one gene in the bin: its normalised dispersion is 1
        spread, centre = spread.where(~alone, centre), centre.where(~alone, 0.0)
    else:
        centre, spread = grouped.median(), grouped.agg(_mad)
    with np.errstate(divide="ignore", invalid="ignore"):
        norm = (dispersion - centre.loc[table["bin"]].to_numpy()) / spread.loc[table["bin"]].to_numpy()
    return table[["means", "dispersions"]].assign(dispersions_norm=norm)


def _mad(values: pd.Series) -> float:
    """Median absolute deviation, scaled to estimate a normal standard deviation."""
    return float(np.median(np.abs(values - np.median(values))) / 0.6744897501960817)


def top_genes(dispersion_norm: Floats, n_top_genes: int) -> npt.NDArray[np.bool_]:
    """Mark the genes at or above the `n_top_genes`-th highest value; ties may mark more."""
    known = np.sort(dispersion_norm[~np.isnan(dispersion_norm)])[::-1]
    if not len(known):
        return np.zeros(len(dispersion_norm), dtype=bool)
    cutoff = known[min(n_top_genes, len(known)) - 1]
    return np.asarray(np.nan_to_num(dispersion_norm, nan=-np.inf) >= cutoff)


class CombinedDispersions:
    """Combines the tables of several groups of cells as `scanpy.pp.highly_variable_genes(batch_key=...)`.

    Means over the groups; a NaN is left out. A gene that a group does not express counts there with
    mean, dispersion and normalised dispersion 0, as in scanpy, unless it was not measured in it.

    Parameters
    ----------
    n_vars
        Number of genes.
    """

    COLUMNS = ("means", "dispersions", "dispersions_norm")

    def __init__(self, n_vars: int) -> None:
        self.groups = 0
        self.total = np.zeros((3, n_vars))
        self.lost = np.zeros((3, n_vars))
        self.n = np.zeros((3, n_vars), dtype=np.int64)
        self.n_chosen = np.zeros(n_vars, dtype=np.int64)

    def add(self, table: pd.DataFrame, chosen: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> None:
        """Add one group: the table of its genes, those it chooses, those it knows of."""
        self.groups += 1
        self.n_chosen += chosen
        for i, column in enumerate(self.COLUMNS):
            values = table[column].to_numpy()
            there = known & ~np.isnan(values)
            # Kahan's summation, as pandas does it; what infinity has lost is nothing
            step = np.where(there, values - self.lost[i], 0.0)
            total = self.total[i] + step
            with np.errstate(invalid="ignore"):
                lost = np.nan_to_num((total - self.total[i]) - step, nan=0.0)
            self.lost[i] = np.where(there, lost, self.lost[i])
            self.total[i] = total
            self.n[i] += there

    def table(self) -> pd.DataFrame:
        """Return the combined columns, one row per gene."""
        with np.errstate(invalid="ignore"):
            return pd.DataFrame(dict(zip(self.COLUMNS, self.total / self.n, strict=True)))


def expressed_table(mean: Floats, var: Floats, flavor: str, n_bins: int) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Return `dispersion_table` over the genes with a mean above 0, and 0 for the others; and which these are."""
    expressed = mean > 0
    table = pd.DataFrame(0.0, index=range(len(mean)), columns=list(CombinedDispersions.COLUMNS))
    if expressed.any():
        part = dispersion_table(mean[expressed], var[expressed], flavor, n_bins)
        table.loc[expressed] = part.to_numpy()
    return table, expressed

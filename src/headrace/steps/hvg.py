"""Highly variable genes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from ..chunk import Holds, StreamSpec
from ..errors import InputError, PlanError, nearest
from ..protocols import Fit, Step
from ..stats.bygroup import SumsByGroup
from ..stats.dispersion import Cutoffs
from ..stats.histograms import HistogramsByGroup
from ..stats.pearson import Models, ResidualSums
from ..support.given import check_fields, check_range
from .flavors import Fitting, Parameters, by_dispersion, by_residuals, by_trend

_CUTOFFS = ("min_mean", "max_mean", "min_disp", "max_disp")
_TAKES: dict[str, tuple[str, ...]] = {
    "seurat": (*_CUTOFFS, "n_bins"),
    "cell_ranger": _CUTOFFS,
    "seurat_v3": ("span", "unfitted"),
    "seurat_v3_paper": ("span", "unfitted"),
    "pearson_residuals": ("theta", "clip"),
}
"""The parameters of each flavor, beside those that all have."""


@dataclass(frozen=True)
class HighlyVariableGenes(Parameters, Fit):
    """Mark genes that vary more than others of similar mean, as `scanpy.pp.highly_variable_genes`.

    Annotates `var` with scanpy's columns; follow it with `SelectGenes("highly_variable")` to keep
    only those genes.

    Parameters
    ----------
    n_top_genes
        How many genes to mark. None: those within the cutoffs, or 2000 for "seurat_v3";
        "pearson_residuals" must be told.
    flavor
        "seurat" (Satija et al. 2015) and "cell_ranger" (Zheng et al. 2017) take logged values,
        "seurat_v3" and "seurat_v3_paper" (Stuart et al. 2019) counts, all in one pass; "pearson_residuals"
        (Lause et al. 2021) takes counts, in two. A pass that is the last is the one that writes.
    batch_key
        Column or columns of `obs`: genes are chosen in every batch, and the choices combined by the
        flavor's rule in scanpy. Several columns make a batch of each combination. Cells
        without a value belong to no batch and are left out.
    layer
        A saved layer to use instead of `X`, e.g. "counts".
    min_mean, max_mean, min_disp, max_disp
        Cutoffs on mean and normalised dispersion, exclusive; only without `n_top_genes`.
    n_bins
        Number of bins of the mean, for "seurat".
    span
        Share of the genes that each point of the trend is fitted to, for "seurat_v3".
    theta, clip
        Overdispersion, and the largest residual, for "pearson_residuals". `clip=None` is the square root
        of the number of cells; with batches that of the first batch by name, as in scanpy.
    measured_only
        Whether mean and variance of a gene are over the cells whose dataset measured it. A gene
        that was not measured is not zero: with False it pulls the mean down, and what varies is
        whether it was measured. A batch in which no cell measured a gene has no say about it. None: True where
        datasets with different genes were joined (`genes="any"`), else False; with one
        dataset both are scanpy's numbers.
    unfitted
        What to do with batches to which no trend can be fitted (one cell, no varying gene, a handful
        of genes), for "seurat_v3": "error" names them, "skip" leaves them out with a warning.
    fractional
        Whether counts need not be whole; a plan sets it where its source says so. "seurat_v3" then looks twice.

    Warns
    -----
    LoessJitterWarning
        If a trend could be fitted only with seeded noise; says how much.

    Notes
    -----
    Equal genes stay in the order of `var`, where scanpy leaves their order to the processor.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.HighlyVariableGenes(n_top_genes=2000).flavor
    'seurat'
    >>> hr.HighlyVariableGenes(flavor="seurat_v3", layer="counts", batch_key="donor_id").passes
    1
    """

    annotates = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.flavor not in _TAKES:
            raise InputError(f"HighlyVariableGenes(flavor={self.flavor!r}): one of {', '.join(map(repr, _TAKES))}")
        if self.batch_key is not None and not isinstance(self.batch_key, str):
            object.__setattr__(self, "batch_key", tuple(self.batch_key))
        if self.n_top_genes is not None and self.n_top_genes < 1:
            raise InputError(f"HighlyVariableGenes(n_top_genes={self.n_top_genes!r}): at least 1, or None")
        if self.n_top_genes is None and self.flavor == "pearson_residuals":
            raise InputError("HighlyVariableGenes(flavor='pearson_residuals') needs n_top_genes, e.g. 2000")
        if self.n_top_genes is not None and self.cutoffs != Cutoffs():
            raise InputError(
                "HighlyVariableGenes: give n_top_genes or cutoffs, not both: n_top_genes would ignore them"
            )
        others = {name for names in _TAKES.values() for name in names} - set(_TAKES[self.flavor])
        for one in fields(self):
            if one.name in others and getattr(self, one.name) != one.default:
                raise InputError(f"HighlyVariableGenes: flavor={self.flavor!r} does not use {one.name}; leave it out")
        check_range(self, "n_bins", 1, 100_000)
        if self.batch_key is not None and not self.batch_key:
            raise InputError("HighlyVariableGenes(batch_key=()): the list is empty; name columns of obs, or None")
        if not 0 < self.span <= 1:
            raise InputError(f"HighlyVariableGenes(span={self.span!r}): above 0, at most 1")
        if not self.theta > 0:
            raise InputError(f"HighlyVariableGenes(theta={self.theta!r}): above 0; infinity is a Poisson model")
        if self.clip is not None and not self.clip >= 0:
            raise InputError(f"HighlyVariableGenes(clip={self.clip!r}): not negative, or None")
        if self.unfitted not in ("error", "skip"):
            raise InputError(f"HighlyVariableGenes(unfitted={self.unfitted!r}): 'error' or 'skip'")

    @property
    def passes(self) -> int:
        """One, or two where the second looks at what the first has found."""
        return 2 if self.flavor == "pearson_residuals" or (self.fractional and self.needs_counts) else 1

    @property
    def needs_counts(self) -> bool:
        """Whether the flavor takes counts."""
        return self.flavor not in ("seurat", "cell_ranger")

    @property
    def by_gene(self) -> bool:
        """Whether the first look learns of each gene from that gene alone; residuals need the totals of cells."""
        return self.flavor != "pearson_residuals" and not self.fractional

    def suited(self, spec: StreamSpec) -> Step:
        """Return the same for fractional counts, if that is what comes."""
        return replace(self, fractional=True) if spec.fractional and self.needs_counts else self

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics, if every possible batch comes."""
        groups = min(len(self.groups(spec)), max(1, spec.n_obs))
        if self.flavor.startswith("seurat_v3") and not self.fractional:
            return HistogramsByGroup.memory(groups, spec.n_vars, _nnz(spec)) + 16 * (self.n_top_genes or 2000) * groups
        sums = SumsByGroup.memory(groups, spec.n_vars, whole=self.needs_counts and not self.fractional)
        if self.flavor == "pearson_residuals":
            models = 8 * min(groups, Models.KEPT) * spec.n_vars
            return sums + ResidualSums.memory(groups, spec.n_vars) + models + 16 * (self.n_top_genes or 0) * groups
        return sums + (40 * groups * spec.n_vars if self.needs_counts else 0)

    def disk(self, spec: StreamSpec) -> int:
        """Predict the bytes of temporary files, if many counts are large or there are many batches."""
        groups = min(len(self.groups(spec)), max(1, spec.n_obs))
        if self.flavor.startswith("seurat_v3") and not self.fractional:
            return HistogramsByGroup.disk(groups, spec.n_vars, _nnz(spec))
        sums = SumsByGroup.disk(groups, spec.n_vars, whole=self.needs_counts and not self.fractional)
        return sums + (ResidualSums.disk(groups, spec.n_vars) if self.flavor == "pearson_residuals" else 0)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless the flavor finds what it takes."""
        if self.layer is not None and self.layer not in spec.layers:
            raise PlanError(
                f"HighlyVariableGenes: no layer {self.layer!r} was saved; {nearest(self.layer, spec.layers)}"
            )
        holds = spec.holds if self.layer is None else spec.layers[self.layer]
        name = "X" if self.layer is None else f"layer {self.layer!r}"
        if not self.needs_counts and holds != Holds.LOGGED:
            raise PlanError(
                f"HighlyVariableGenes(flavor={self.flavor!r}) takes logged values, but {name} is {holds} here; "
                "put Log1p() before it"
            )
        if self.flavor == "seurat" and self.layer is None and "log1p" not in spec.uns and "logcpm" in spec.uns:
            raise PlanError(
                "HighlyVariableGenes(flavor='seurat') undoes Log1p(), but X was logged by LogCPM, which adds a prior "
                "count; use NormalizeTotal(1e6) and Log1p(), or flavor='cell_ranger'"
            )
        if self.needs_counts and holds not in (Holds.COUNTS, Holds.UNKNOWN):
            saved = [layer for layer, what in spec.layers.items() if what in (Holds.COUNTS, Holds.UNKNOWN)]
            remedy = (
                f"layer={saved[0]!r} has them" if saved else "SaveLayer('counts') before they are changed keeps them"
            )
            raise PlanError(
                f"HighlyVariableGenes(flavor={self.flavor!r}) takes counts, but {name} is {holds} here; {remedy}"
            )
        self.groups(spec)
        self.measured(spec)
        several = self.n_top_genes or (2000 if self.flavor.startswith("seurat_v3") else 0)
        return spec.with_var(highly_variable=np.arange(spec.n_vars) < several)  # as many as there will be, if known

    def fit(self, spec: StreamSpec) -> Fitting:
        """Sum up every gene in every batch; return the annotation."""
        if self.flavor == "pearson_residuals":
            return (yield from by_residuals(self, spec))
        if self.needs_counts:
            return (yield from by_trend(self, spec))
        return (yield from by_dispersion(self, spec))


def _nnz(spec: StreamSpec) -> int:
    """Return the most non-zeros that can come."""
    return spec.n_obs * spec.n_vars if spec.nnz is None else spec.nnz

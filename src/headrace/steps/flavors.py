"""How each flavor of highly variable genes finds them; see `HighlyVariableGenes`."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from math import fsum
from typing import Any, Literal

import numpy as np

from ..chunk import StreamSpec
from ..errors import InputError, PlanError
from ..protocols import Accumulator, Transform
from ..stats.bygroup import MomentsByGroup, SumsByGroup
from ..stats.clipped import ClippedSums
from ..stats.combined import Combined
from ..stats.dispersion import CombinedDispersions, Cutoffs, dispersion_table, expressed_table, top_genes
from ..stats.groups import Groups
from ..stats.histograms import Histograms, HistogramsByGroup
from ..stats.loess import CannotFitError
from ..stats.measured import Measured
from ..stats.pearson import DatasetTotals, Model, Models, ResidualSums
from ..stats.ranks import TopGenes, first
from ..stats.representation import Representation
from ..stats.vst import Expected, expected, standardized_variance
from .annotate import AnnotateGenes

Fitting = Generator[Accumulator[Any], Any, Transform]


Flavor = Literal["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper", "pearson_residuals"]


@dataclass(frozen=True)
class Parameters:
    """The parameters of `HighlyVariableGenes`, where they are described."""

    n_top_genes: int | None = None
    flavor: Flavor = "seurat"
    batch_key: str | tuple[str, ...] | None = None
    layer: str | None = None
    min_mean: float = 0.0125
    max_mean: float = 3.0
    min_disp: float = 0.5
    max_disp: float = float("inf")
    n_bins: int = 20
    span: float = 0.3
    theta: float = 100.0
    clip: float | None = None
    measured_only: bool | None = None
    unfitted: Literal["error", "skip"] = "error"
    fractional: bool = False

    @property
    def cutoffs(self) -> Cutoffs:
        """Bounds on mean and normalised dispersion."""
        return Cutoffs(self.min_mean, self.max_mean, self.min_disp, self.max_disp)

    def groups(self, spec: StreamSpec) -> Groups:
        """Return the batches."""
        return Groups.of(spec, self.batch_key, "HighlyVariableGenes")

    def measured(self, spec: StreamSpec) -> Measured | None:
        """Return what each dataset measured, if that is to matter and differs."""
        wanted = spec.presence_aware if self.measured_only is None else self.measured_only
        if not wanted or spec.measured is None or spec.measured.complete:
            return None
        if "dataset_id" not in spec.obs:
            raise PlanError("HighlyVariableGenes(measured_only=True): obs has no column 'dataset_id'")
        return Measured.of(spec)


class LoessJitterWarning(UserWarning):
    """A trend of variances could be fitted only after means had been moved a little.

    Examples
    --------
    >>> import warnings, headrace as hr
    >>> warnings.filterwarnings("error", category=hr.LoessJitterWarning)  # as scanpy, which stops there
    """


class UnfittedBatchWarning(UserWarning):
    """A batch took no part in the choice of genes, because no trend fits it.

    Examples
    --------
    >>> import warnings, numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> X = np.random.default_rng(0).poisson(np.geomspace(0.1, 20, 60), (101, 60))
    >>> donors = pd.DataFrame({"donor": pd.Categorical(["many"] * 100 + ["one"])}, index=[f"c{i}" for i in range(101)])
    >>> cells = ArraySource(X, donors, pd.DataFrame(index=[f"g{i}" for i in range(60)]))
    >>> chosen = hr.HighlyVariableGenes(10, "seurat_v3", batch_key="donor", unfitted="skip")
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     var = hr.Plan(cells, [chosen]).var()
    >>> print(told[0].message)
    batches took no part in the choice of genes: donor='one' (1 cells: no gene varies)
    """


def by_dispersion(hvg: Parameters, spec: StreamSpec) -> Fitting:
    """Flavors "seurat" and "cell_ranger": dispersion among genes of similar mean; one pass."""
    rep = Representation(hvg.layer, unlog=hvg.flavor == "seurat", base=spec.uns.get("log1p", {}).get("base"))
    sums = SumsByGroup(hvg.groups(spec), spec.n_vars, rep, whole=False, measured=hvg.measured(spec))
    moments: MomentsByGroup = yield sums
    columns: dict[str, Any] = {}
    if hvg.batch_key is None:
        of = moments.all()
        table = dispersion_table(of.mean, of.var, hvg.flavor, hvg.n_bins)
        chosen = choose(hvg, table)
    else:
        batches = CombinedDispersions(spec.n_vars)
        for code in moments.codes:
            of = moments.of(code)
            table, expressed = expressed_table(of.mean, of.var, hvg.flavor, hvg.n_bins)
            chosen = np.zeros(spec.n_vars, dtype=bool)
            chosen[expressed] = choose(hvg, table[expressed])
            batches.add(table, chosen, known=np.broadcast_to(np.asarray(of.n) > 0, chosen.shape))
        table = batches.table()
        if hvg.n_top_genes is None:
            table["dispersions_norm"] = table["dispersions_norm"].fillna(0.0)
            chosen = choose(hvg, table)
        else:
            by_name = np.argsort(np.argsort(spec.var.index.to_numpy(dtype=str)))
            chosen = first([-batches.n_chosen, -table["dispersions_norm"].to_numpy(), by_name], hvg.n_top_genes)
        columns["highly_variable_nbatches"] = batches.n_chosen
        columns["highly_variable_intersection"] = batches.n_chosen == batches.groups
    columns = {
        "highly_variable": chosen,
        "means": table["means"].to_numpy(),
        "dispersions": table["dispersions"].to_numpy(),
        "dispersions_norm": table["dispersions_norm"].to_numpy().astype(np.float32),
        **columns,
    }
    return AnnotateGenes(columns, {"hvg": {"flavor": hvg.flavor}})


def choose(hvg: Parameters, table: Any) -> Any:
    """Mark the genes of a table of dispersions, shape (genes,)."""
    norm = table["dispersions_norm"].to_numpy()
    if hvg.n_top_genes is None:
        return hvg.cutoffs.within(table["means"].to_numpy(), norm)
    return top_genes(norm, hvg.n_top_genes)


def by_trend(hvg: Parameters, spec: StreamSpec) -> Fitting:
    """Flavors "seurat_v3" and "seurat_v3_paper": variance beyond a trend of the mean; one pass, two if fractional."""
    measured = hvg.measured(spec)
    groups, rep = hvg.groups(spec), Representation(hvg.layer)
    counts: Histograms | MomentsByGroup
    if hvg.fractional:
        counts = yield SumsByGroup(groups, spec.n_vars, rep, whole=False, measured=measured)
        trends = dict(each_trend(hvg, counts))
        caps = {code: one.cap(counts.of(code)) for code, one in trends.items()}
        sums = yield ClippedSums(groups, spec.n_vars, rep, caps, measured)
        fits: Iterable[tuple[int, Expected]] = trends.items()
        clipped = {code: sums.of(code) for code in trends}
    else:
        counts = yield HistogramsByGroup(groups, spec.n_vars, rep, measured)
        fits = each_trend(hvg, counts)
        clipped = {}
    n = hvg.n_top_genes or 2000
    top = TopGenes(spec.n_vars, n)
    for code, one in fits:
        of = counts.of(code)
        clip = counts.clipped(code, one.cap(of)) if isinstance(counts, Histograms) else clipped[code]
        score = standardized_variance(of, clip, one.std(of))
        top.add(score, None if measured is None else np.asarray(of.n) > 0)
    rank, n_batches, of = top.median_rank, top.n_groups, counts.all()
    keys: list[Any] = [rank, -n_batches] if hvg.flavor == "seurat_v3" else [-n_batches, rank]
    columns: dict[str, Any] = {
        "highly_variable": first(keys, n),
        "highly_variable_rank": rank,
        "means": of.mean,
        "variances": of.var,
        "variances_norm": top.mean,
    }
    if hvg.batch_key is not None:
        columns["highly_variable_nbatches"] = n_batches
    return AnnotateGenes(columns, {"hvg": {"flavor": hvg.flavor}})


def each_trend(hvg: Parameters, moments: Histograms | MomentsByGroup) -> Iterator[tuple[int, Expected]]:
    """Fit the trend of every batch; at the end name those that have none, and those that needed noise."""
    failed, moved, fitted = [], [], 0
    for code in moments.codes:
        label = moments.groups.label(code)
        try:
            one = expected(moments.of(code), hvg.span)
        except CannotFitError as error:
            failed.append(f"{label} ({moments.n_cells(code)} cells: {error})")
        else:
            if one.jitter:
                moved.append(f"{label} (by up to {one.jitter:.0e})")
            fitted += 1
            yield code, one
    if failed and (hvg.unfitted == "error" or not fitted):
        raise InputError(
            f"HighlyVariableGenes(flavor={hvg.flavor!r}) cannot fit {_some(failed)}; leave these cells out, choose "
            "larger batches, or a flavor without a trend"
            + (", or leave the batches out with unfitted='skip'" if fitted else "")
        )
    if failed:
        warnings.warn(
            f"batches took no part in the choice of genes: {_some(failed)}", UnfittedBatchWarning, stacklevel=2
        )
    if moved:
        warnings.warn(
            f"log10 means were moved by seeded noise, since the trend was singular: {_some(moved)}",
            LoessJitterWarning,
            stacklevel=2,
        )


def by_residuals(hvg: Parameters, spec: StreamSpec) -> Fitting:
    """Flavor "pearson_residuals": variance of residuals of a model without biology; two passes."""
    groups, rep, measured = hvg.groups(spec), Representation(hvg.layer), hvg.measured(spec)
    moments, totals = yield Combined(
        SumsByGroup(groups, spec.n_vars, rep, whole=not hvg.fractional, measured=measured),
        None if hvg.fractional else DatasetTotals(groups, rep, measured),
    )
    clip = hvg.clip
    if clip is None:
        clip = float(np.sqrt(moments.n_cells(min(moments.codes, key=groups.name)))) if len(moments) else 0.0

    def model(code: int) -> Model:
        total, in_all = moments.of(code).total, np.asarray(0)
        if hvg.fractional:
            in_all = np.asarray(fsum(total))
        else:
            in_all = totals[code].sum() if measured is None else measured.n(totals[code])
        return Model(total / np.maximum(in_all, 1), clip)

    models = Models(model, moments.codes)
    variances = yield ResidualSums(groups, spec.n_vars, rep, models, hvg.theta, measured)
    assert hvg.n_top_genes is not None
    top = TopGenes(spec.n_vars, hvg.n_top_genes)
    for code, variance in variances:
        top.add(variance, None if measured is None else np.asarray(moments.of(code).n) > 0)
    of = moments.all()
    columns: dict[str, Any] = {
        "means": of.mean,
        "variances": of.var,
        "residual_variances": top.mean,
        "highly_variable_rank": top.median_rank,
    }
    if hvg.batch_key is not None:
        columns["highly_variable_nbatches"] = top.n_groups
        columns["highly_variable_intersection"] = top.n_groups == top.groups
    columns["highly_variable"] = first([-top.n_groups, top.median_rank], hvg.n_top_genes)
    return AnnotateGenes(columns, {"hvg": {"flavor": hvg.flavor, "computed_on": hvg.layer or "adata.X"}})


def _some(names: list[str]) -> str:
    return "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")

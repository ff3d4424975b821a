"""Highly variable genes."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Transform
from ..stats.both import Both
from ..stats.bygroup import Excess, Measured, MomentsByGroup, SumsByGroup, clipped
from ..stats.dispersion import CombinedDispersions, Cutoffs, dispersion_table, expressed_table, top_genes
from ..stats.groups import Groups
from ..stats.loess import CannotFitError
from ..stats.look import Look
from ..stats.pearson import DatasetTotals, Model, ResidualSums
from ..stats.ranks import TopGenes, first
from ..stats.vst import Expected, expected, standardized_variance, whole_below

Flavor = Literal["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper", "pearson_residuals"]
Fitting = Generator[Accumulator[Any], Any, Transform]

_CUTOFFS = ("min_mean", "max_mean", "min_disp", "max_disp")
_TAKES: dict[str, tuple[str, ...]] = {
    "seurat": (*_CUTOFFS, "n_bins"),
    "cell_ranger": _CUTOFFS,
    "seurat_v3": ("span", "unfitted"),
    "seurat_v3_paper": ("span", "unfitted"),
    "pearson_residuals": ("theta", "clip"),
}
"""The parameters of each flavor, beside those that all have."""


class LoessJitterWarning(UserWarning):
    """A trend of variances could be fitted only after means had been moved a little."""


class UnfittedBatchWarning(UserWarning):
    """A batch took no part in the choice of genes, because no trend fits it."""


@dataclass(frozen=True)
class HighlyVariableGenes:
    """Mark genes that vary more than others of similar mean, as `scanpy.pp.highly_variable_genes`.

    Annotates `var` with scanpy's columns; follow it with `SelectGenes("highly_variable")` to keep
    only those genes.

    Parameters
    ----------
    n_top_genes
        How many genes to mark. None: those within the cutoffs, or 2000 for "seurat_v3";
        "pearson_residuals" must be told.
    flavor
        "seurat" (Satija et al. 2015) and "cell_ranger" (Zheng et al. 2017) take logged values, in one
        pass. "seurat_v3" and "seurat_v3_paper" (Stuart et al. 2019) and "pearson_residuals" (Lause et
        al. 2021) take counts, in two. A pass that is the last is the one that writes.
    batch_key
        Column or columns of `obs`: genes are chosen in every batch, and the choices combined by the
        flavor's rule in scanpy. Several columns make a batch of each combination. Cells
        without a value belong to no batch and are left out.
    layer
        A saved layer to look at instead of `X`, e.g. "counts".
    min_mean, max_mean, min_disp, max_disp
        Cutoffs on mean and normalised dispersion, exclusive; only without `n_top_genes`.
    n_bins
        Number of bins of the mean, for "seurat".
    span
        Share of the genes that each point of the trend looks at, for "seurat_v3".
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
    2
    """

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
    annotates = True
    reads_var = False

    def __post_init__(self) -> None:
        if self.flavor not in _TAKES:
            raise InputError(f"HighlyVariableGenes(flavor={self.flavor!r}): one of {', '.join(map(repr, _TAKES))}")
        if self.batch_key is not None and not isinstance(self.batch_key, str):
            object.__setattr__(self, "batch_key", tuple(self.batch_key))
        if self.n_top_genes is not None and self.n_top_genes < 1:
            raise InputError(f"HighlyVariableGenes(n_top_genes={self.n_top_genes!r}): at least 1, or None")
        if self.n_top_genes is None and self.flavor == "pearson_residuals":
            raise InputError("HighlyVariableGenes(flavor='pearson_residuals') needs n_top_genes, e.g. 2000")
        if self.n_top_genes is not None and self._cutoffs != Cutoffs():
            raise InputError(
                "HighlyVariableGenes: give n_top_genes or cutoffs, not both: n_top_genes would ignore them"
            )
        others = {name for names in _TAKES.values() for name in names} - set(_TAKES[self.flavor])
        for one in fields(self):
            if one.name in others and getattr(self, one.name) != one.default:
                raise InputError(f"HighlyVariableGenes: flavor={self.flavor!r} does not use {one.name}; leave it out")
        if self.n_bins < 1:
            raise InputError(f"HighlyVariableGenes(n_bins={self.n_bins!r}): at least 1")
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
        """One for dispersions, two where the second looks at what the first has found."""
        return 2 if self.needs_counts else 1

    @property
    def needs_counts(self) -> bool:
        """Whether the flavor takes counts."""
        return self.flavor not in ("seurat", "cell_ranger")

    @property
    def _cutoffs(self) -> Cutoffs:
        return Cutoffs(self.min_mean, self.max_mean, self.min_disp, self.max_disp)

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics, if every possible batch comes."""
        groups = min(len(self._groups(spec)), max(1, spec.n_obs))
        second = 0 if not self.needs_counts else 32 if self.flavor == "pearson_residuals" else 12
        return SumsByGroup.memory(groups, spec.n_vars, whole=self.needs_counts) + groups * spec.n_vars * second

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
        if self.needs_counts and holds not in (Holds.COUNTS, Holds.UNKNOWN):
            saved = [layer for layer, what in spec.layers.items() if what in (Holds.COUNTS, Holds.UNKNOWN)]
            remedy = (
                f"layer={saved[0]!r} has them" if saved else "SaveLayer('counts') before they are changed keeps them"
            )
            raise PlanError(
                f"HighlyVariableGenes(flavor={self.flavor!r}) takes counts, but {name} is {holds} here; {remedy}"
            )
        self._groups(spec)
        self._measured(spec)
        return spec.with_var(highly_variable=False)

    def fit(self, spec: StreamSpec) -> Fitting:
        """Sum up every gene in every batch; return the annotation."""
        if self.flavor == "pearson_residuals":
            return (yield from self._by_residuals(spec))
        if self.needs_counts:
            return (yield from self._by_trend(spec))
        return (yield from self._by_dispersion(spec))

    # ------------------------------------------------------------------------------------------ the three ways
    def _by_dispersion(self, spec: StreamSpec) -> Fitting:
        look = Look(self.layer, unlog=self.flavor == "seurat", base=spec.uns.get("log1p", {}).get("base"))
        sums = SumsByGroup(self._groups(spec), spec.n_vars, look, whole=False, measured=self._measured(spec))
        moments: MomentsByGroup = yield sums
        columns: dict[str, Any] = {}
        if self.batch_key is None:
            of = moments.all()
            table = dispersion_table(of.mean, of.var, self.flavor, self.n_bins)
            chosen = self._choose(table)
        else:
            batches = CombinedDispersions(spec.n_vars)
            for code in moments.codes:
                of = moments.of(code)
                table, expressed = expressed_table(of.mean, of.var, self.flavor, self.n_bins)
                chosen = np.zeros(spec.n_vars, dtype=bool)
                chosen[expressed] = self._choose(table[expressed])
                batches.add(table, chosen, known=np.broadcast_to(np.asarray(of.n) > 0, chosen.shape))
            table = batches.table()
            if self.n_top_genes is None:
                table["dispersions_norm"] = table["dispersions_norm"].fillna(0.0)
                chosen = self._choose(table)
            else:
                by_name = np.argsort(np.argsort(spec.var.index.to_numpy(dtype=str)))
                chosen = first([-batches.n_chosen, -table["dispersions_norm"].to_numpy(), by_name], self.n_top_genes)
            columns["highly_variable_nbatches"] = batches.n_chosen
            columns["highly_variable_intersection"] = batches.n_chosen == batches.groups
        columns = {
            "highly_variable": chosen,
            "means": table["means"].to_numpy(),
            "dispersions": table["dispersions"].to_numpy(),
            "dispersions_norm": table["dispersions_norm"].to_numpy().astype(np.float32),
            **columns,
        }
        return AnnotateGenes(columns, {"hvg": {"flavor": self.flavor}})

    def _choose(self, table: Any) -> Any:
        norm = table["dispersions_norm"].to_numpy()
        if self.n_top_genes is None:
            return self._cutoffs.within(table["means"].to_numpy(), norm)
        return top_genes(norm, self.n_top_genes)

    def _by_trend(self, spec: StreamSpec) -> Fitting:
        groups, look, measured = self._groups(spec), Look(self.layer), self._measured(spec)
        moments: MomentsByGroup = yield SumsByGroup(groups, spec.n_vars, look, whole=True, measured=measured)
        trends = self._trends(moments)
        caps = {code: whole_below(one.cap(moments.of(code))) for code, one in trends.items()}
        above = yield Excess(groups, caps, look)
        n = self.n_top_genes or 2000
        top = TopGenes(spec.n_vars, n)
        for code, one in trends.items():
            of = moments.of(code)
            clip = clipped(moments, code, one.cap(of), above.get(code))
            score = standardized_variance(of, clip, one.std(of))
            top.add(score, None if measured is None else np.asarray(of.n) > 0)
        rank, n_batches, of = top.median_rank, top.n_groups, moments.all()
        keys: list[Any] = [rank, -n_batches] if self.flavor == "seurat_v3" else [-n_batches, rank]
        columns: dict[str, Any] = {
            "highly_variable": first(keys, n),
            "highly_variable_rank": rank,
            "means": of.mean,
            "variances": of.var,
            "variances_norm": top.mean,
        }
        if self.batch_key is not None:
            columns["highly_variable_nbatches"] = n_batches
        return AnnotateGenes(columns, {"hvg": {"flavor": self.flavor}})

    def _trends(self, moments: MomentsByGroup) -> dict[int, Expected]:
        """Fit the trend of every batch; name those that have none, and those that needed noise."""
        trends: dict[int, Expected] = {}
        failed, moved = [], []
        for code in moments.codes:
            label = moments.groups.label(code)
            try:
                trends[code] = expected(moments.of(code), self.span)
            except CannotFitError as error:
                failed.append(f"{label} ({moments.n_cells(code)} cells: {error})")
            else:
                if trends[code].jitter:
                    moved.append(f"{label} (by up to {trends[code].jitter:.0e})")
        if failed and (self.unfitted == "error" or not trends):
            raise InputError(
                f"HighlyVariableGenes(flavor={self.flavor!r}) cannot fit {_some(failed)}; leave these cells out, choose "
                "larger batches, or a flavor without a trend"
                + (", or leave the batches out with unfitted='skip'" if trends else "")
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
        return trends

    def _by_residuals(self, spec: StreamSpec) -> Fitting:
        groups, look, measured = self._groups(spec), Look(self.layer), self._measured(spec)
        moments, totals = yield Both(
            SumsByGroup(groups, spec.n_vars, look, whole=True, measured=measured), DatasetTotals(groups, look, measured)
        )
        clip = self.clip
        if clip is None:
            clip = float(np.sqrt(moments.n_cells(min(moments.codes, key=groups.name)))) if len(moments) else 0.0
        models = {}
        for code in moments.codes:
            in_all = totals[code].sum() if measured is None else measured.n(totals[code])
            models[code] = Model(moments.of(code).total / np.maximum(in_all, 1), clip)
        variances = yield ResidualSums(groups, spec.n_vars, look, models, self.theta, measured)
        assert self.n_top_genes is not None
        top = TopGenes(spec.n_vars, self.n_top_genes)
        for code, variance in variances:
            top.add(variance, None if measured is None else np.asarray(moments.of(code).n) > 0)
        of = moments.all()
        columns: dict[str, Any] = {
            "means": of.mean,
            "variances": of.var,
            "residual_variances": top.mean,
            "highly_variable_rank": top.median_rank,
        }
        if self.batch_key is not None:
            columns["highly_variable_nbatches"] = top.n_groups
            columns["highly_variable_intersection"] = top.n_groups == top.groups
        columns["highly_variable"] = first([-top.n_groups, top.median_rank], self.n_top_genes)
        return AnnotateGenes(columns, {"hvg": {"flavor": self.flavor, "computed_on": self.layer or "adata.X"}})

    def _groups(self, spec: StreamSpec) -> Groups:
        return Groups.of(spec, self.batch_key, "HighlyVariableGenes")

    def _measured(self, spec: StreamSpec) -> Measured | None:
        """Return what each dataset measured, if that is to matter and differs."""
        wanted = spec.presence_aware if self.measured_only is None else self.measured_only
        if not wanted or spec.measured is None or spec.measured.to_numpy().all():
            return None
        if "dataset_id" not in spec.obs:
            raise PlanError("HighlyVariableGenes(measured_only=True): obs has no column 'dataset_id'")
        return Measured.of(spec)


def _some(names: list[str]) -> str:
    return "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


@dataclass(frozen=True, eq=False)
class AnnotateGenes:
    """Add columns to `var` and entries to `uns`; the cells stay as they are."""

    columns: Mapping[str, Any]
    uns: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the same cells."""
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the annotated stream."""
        return spec.with_var(**self.columns).with_uns(**self.uns)

"""Highly variable genes."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError
from ..protocols import Accumulator, Transform
from ..stats.dispersion import Cutoffs, dispersion_table, top_genes
from ..stats.groups import Groups
from ..stats.look import Look
from ..stats.moments import Moments, MomentSums


@dataclass(frozen=True)
class HighlyVariableGenes:
    """Mark genes that vary more than others of similar mean, as `scanpy.pp.highly_variable_genes`.

    Annotates `var`; follow it with `SelectGenes("highly_variable")` to keep only those genes.

    Parameters
    ----------
    n_top_genes
        How many genes to mark. None: those within the cutoffs.
    flavor
        "seurat" (Satija et al. 2015) and "cell_ranger" (Zheng et al. 2017) take logged values and
        write `means`, `dispersions`, `dispersions_norm`.
    min_mean, max_mean, min_disp, max_disp
        Cutoffs on mean and normalised dispersion, exclusive; only without `n_top_genes`.
    n_bins
        Number of bins of the mean, for "seurat".

    Examples
    --------
    >>> import headrace as hr
    >>> hr.HighlyVariableGenes(n_top_genes=2000).flavor
    'seurat'
    """

    n_top_genes: int | None = None
    flavor: Literal["seurat", "cell_ranger"] = "seurat"
    min_mean: float = 0.0125
    max_mean: float = 3.0
    min_disp: float = 0.5
    max_disp: float = float("inf")
    n_bins: int = 20
    passes = 1
    annotates = True
    reads_var = False

    def __post_init__(self) -> None:
        if self.flavor not in ("seurat", "cell_ranger"):
            raise InputError(f"HighlyVariableGenes(flavor={self.flavor!r}): 'seurat' or 'cell_ranger'")
        if self.n_top_genes is not None and self.n_top_genes < 1:
            raise InputError(f"HighlyVariableGenes(n_top_genes={self.n_top_genes!r}): at least 1, or None")
        if self.n_top_genes is not None and self._cutoffs != Cutoffs():
            raise InputError("HighlyVariableGenes: give n_top_genes or cutoffs, not both: n_top_genes would ignore them")
        if self.n_bins < 1:
            raise InputError(f"HighlyVariableGenes(n_bins={self.n_bins!r}): at least 1")

    @property
    def _cutoffs(self) -> Cutoffs:
        return Cutoffs(self.min_mean, self.max_mean, self.min_disp, self.max_disp)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless X is logged here."""
        if spec.holds != Holds.LOGGED:
            raise PlanError(
                f"HighlyVariableGenes(flavor={self.flavor!r}) takes logged values, but X is {spec.holds} here; "
                "put Log1p() before it"
            )
        return spec.with_var(highly_variable=False)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Sum up every gene; return the annotation."""
        look = Look(unlog=self.flavor == "seurat", base=spec.uns.get("log1p", {}).get("base"))
        moments: Moments = yield MomentSums(Groups(), spec.n_vars, look)
        table = dispersion_table(moments.mean[0], moments.var[0], self.flavor, self.n_bins)
        norm = table["dispersions_norm"].to_numpy()
        if self.n_top_genes is None:
            chosen = self._cutoffs.within(table["means"].to_numpy(), norm)
        else:
            chosen = top_genes(norm, self.n_top_genes)
        columns = {
            "highly_variable": chosen,
            "means": table["means"].to_numpy(),
            "dispersions": table["dispersions"].to_numpy(),
            "dispersions_norm": norm.astype(np.float32),
        }
        return AnnotateGenes(columns, {"hvg": {"flavor": self.flavor}})


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

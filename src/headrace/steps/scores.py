"""Scores of cells: how much more a set of genes is expressed than others like them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk, StreamSpec
from ..errors import InputError
from ..protocols import Accumulator, Fit, Transform
from ..stats import kernels
from ..stats.bygroup import MomentsByGroup, SumsByGroup
from ..stats.groups import Groups
from ..stats.measured import Measured
from ..stats.representation import Representation
from ..support.given import check_fields
from .genesets import Scoring, chosen, controls, mask_of, warn_of_unmeasured

PHASES = pd.CategoricalDtype(["G1", "G2M", "S"])


@dataclass(frozen=True)
class ScoreGenes(Scoring, Fit):
    """Score cells for a set of genes, as `scanpy.tl.score_genes`, in `obs`.

    The mean of the genes, less the mean of control genes: genes of the pool are cut into bins by their mean over all
    cells, and from each bin that has a gene of the set, `ctrl_size` are drawn with scanpy's random numbers.

    Genes are named by the index of `var`, or by `var["feature_name"]`. Where datasets with different genes were joined,
    means are over what was measured.

    Parameters
    ----------
    genes
        The set.
    score_name
        Column of `obs`.
    ctrl_size
        Control genes drawn from each bin.
    n_bins
        Number of bins.
    gene_pool
        Genes to draw from, the set among them; all by default.
    random_state
        Seed.
    ctrl_as_ref
        Whether genes of the set may be drawn (they are left out afterwards), as in scanpy 1.
    layer
        A saved layer, instead of `X`.

    Raises
    ------
    PlanError
        If no gene of the set was measured, a name stands for several genes, or the pool is too small.
    InputError
        If no control gene is left.

    Warns
    -----
    UnmeasuredGenesWarning
        Names the genes that were not measured; they are left out.

    Notes
    -----
    One look for the means of genes, which `HighlyVariableGenes` and other statistics of genes before it share.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.ScoreGenes(["CD3D", "CD3E"], score_name="T").passes
    1
    """

    keeps_values = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "genes", (self.genes,) if isinstance(self.genes, str) else tuple(self.genes))
        if not self.genes:
            raise InputError(f"{self.label}(genes=[]): the list is empty; give the genes to score")
        for name, least in (("ctrl_size", 1), ("n_bins", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{self.label}({name}={getattr(self, name)}): from {least} on")
        if not 0 <= self.random_state < 2**32:
            raise InputError(f"{self.label}(random_state={self.random_state}): from 0 to 2**32 - 1")

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the means."""
        return SumsByGroup.memory(1, spec.n_vars, whole=False)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless there are genes to score, and genes to draw from."""
        chosen(self, spec)
        return spec.with_obs(**{self.score_name: "float64"})

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the mean of every gene; return what scores cells."""
        scores: Scores = yield from _fit(spec, [self])
        return scores


@dataclass(frozen=True)
class ScoreGenesCellCycle(Fit):
    """Score cells for the S and the G2M phase, as `scanpy.tl.score_genes_cell_cycle`.

    Adds `obs["S_score"]`, `obs["G2M_score"]` and `obs["phase"]`: "G1" where both are negative, else the larger one.
    As many control genes are drawn from each bin as the shorter list has genes.

    Parameters
    ----------
    s_genes, g2m_genes
        Genes of the phases, by the index of `var` or by `var["feature_name"]`.
    n_bins, gene_pool, random_state, ctrl_as_ref, layer
        As in `ScoreGenes`.

    Warns
    -----
    UnmeasuredGenesWarning
        Names the genes that were not measured; they are left out.

    Notes
    -----
    One look for the means of genes, for both scores.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.ScoreGenesCellCycle(["MCM5", "PCNA"], ["HMGB2", "CDK1"]).passes
    1
    """

    s_genes: Sequence[str]
    g2m_genes: Sequence[str]
    n_bins: int = 25
    gene_pool: Sequence[str] | None = None
    random_state: int = 0
    ctrl_as_ref: bool = True
    layer: str | None = None
    keeps_values = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("s_genes", "g2m_genes"):
            if not getattr(self, name):
                raise InputError(f"ScoreGenesCellCycle({name}): the list is empty")
        self._both()

    def _both(self) -> list[ScoreGenes]:
        """Return both scores."""
        common = ("n_bins", "gene_pool", "random_state", "ctrl_as_ref", "layer")
        options = {name: getattr(self, name) for name in common}
        size = min(len(self.s_genes), len(self.g2m_genes))
        lists = {"S_score": self.s_genes, "G2M_score": self.g2m_genes}
        return [ScoreGenes(genes, name, size, **options) for name, genes in lists.items()]

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the means."""
        return SumsByGroup.memory(1, spec.n_vars, whole=False)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless there are genes to score, and genes to draw from."""
        for score in self._both():
            spec = score.preview(spec)
        return spec.with_obs(phase=PHASES)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the mean of every gene; return what scores cells."""
        scores: Scores = yield from _fit(spec, self._both())
        return replace(scores, phase=True)


def _fit(spec: StreamSpec, steps: Sequence[ScoreGenes]) -> Generator[Accumulator[Any], Any, Any]:
    """Find the means of genes in one look, and draw the control genes of every score."""
    measured, rep = _measured(spec), Representation(steps[0].layer)
    for step in steps:
        warn_of_unmeasured(step, spec)
    moments: MomentsByGroup = yield SumsByGroup(Groups(), spec.n_vars, rep, whole=False, measured=measured)
    mean = moments.all().mean
    sets = {}
    for step in steps:
        genes, pool = chosen(step, spec)
        sets[step.score_name] = (
            mask_of(genes, spec.n_vars),
            mask_of(controls(step, genes, pool, mean), spec.n_vars),
        )
    return Scores(sets, rep, measured)


def _measured(spec: StreamSpec) -> Measured | None:
    """Return what each dataset measured, if that differs."""
    if spec.measured is None or spec.measured.complete or "dataset_id" not in spec.obs:
        return None
    return Measured.of(spec)


@dataclass(frozen=True, eq=False)
class Scores(Transform):
    """Add scores to `obs`.

    Parameters
    ----------
    sets
        For each score which genes are of the set, and which are controls, shape (n_vars,) each.
    rep
        Which matrix.
    measured
        What each dataset measured, if that matters.
    phase
        Whether to name the phase of the cell cycle by the two scores.
    """

    sets: Mapping[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
    rep: Representation
    measured: Measured | None
    phase: bool = False

    @property
    def adds_obs(self) -> tuple[str, ...]:
        """The scores."""
        return (*self.sets, *(("phase",) if self.phase else ()))

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """What says which genes were measured."""
        return () if self.measured is None else ("dataset_id",)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with their scores."""
        X = self.rep.csr(chunk)
        columns: dict[str, Any] = {}
        for name, masks in self.sets.items():
            of, control = (self._mean(X, chunk, mask, n) for mask, n in zip(masks, self._n[name], strict=True))
            columns[name] = of - control
        if self.phase:
            s, g2m = columns["S_score"], columns["G2M_score"]
            names = np.where((s < 0) & (g2m < 0), "G1", np.where(g2m > s, "G2M", "S"))
            columns["phase"] = pd.Categorical(names, dtype=PHASES)
        return chunk.with_obs(**columns)

    @cached_property
    def _n(self) -> dict[str, list[Any]]:
        """How many genes of each set and its controls were measured: a number, or one for each dataset."""
        seen = None if self.measured is None else self.measured.seen
        return {
            name: [mask.sum() if seen is None else seen.n_genes(mask) for mask in masks]
            for name, masks in self.sets.items()
        }

    def _mean(self, X: Any, chunk: Chunk, mask: npt.NDArray[np.bool_], n: Any) -> npt.NDArray[np.float64]:
        """Return the mean of some genes in every cell, over those that were measured there."""
        sums = np.empty(X.shape[0], dtype=np.float64)
        kernels.row_sums_of(X.indptr, X.indices, X.data, mask, sums)
        if self.measured is not None:
            n = n[self.measured.rows(chunk)]
        with np.errstate(invalid="ignore"):  # none was measured: not known
            return np.asarray(sums / n)

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the scores."""
        made = spec.with_obs(**dict.fromkeys(self.sets, "float64"))
        return made.with_obs(phase=PHASES) if self.phase else made

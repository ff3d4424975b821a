"""Markers: genes that differ between groups of cells."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Holds, StreamSpec
from ..errors import CellsAsReplicatesWarning, InputError, PlanError, UntestedGroupsWarning, nearest
from ..protocols import Accumulator, Fit, Transform
from ..stats import kernels
from ..stats.combined import Combined
from ..stats.genemajor import RankSums, ValuesByGene
from ..stats.groups import Groups
from ..stats.markers import Sample, adjusted, log_fold_change, t_test, wilcoxon
from ..stats.representation import Representation
from ..stats.statistics import Statistics, StatisticsByGroup, check_number
from ..support.given import check_fields
from .annotate import AnnotateGenes
from .markertable import tables

METHODS = ("t-test", "t-test_overestim_var", "wilcoxon")
CORRECTIONS = ("benjamini-hochberg", "bonferroni")
MANY = 500
"""So many groups are asked for their cells before they are taken for groups."""


@dataclass(frozen=True)
class RankGenesGroups(Fit):
    """Rank genes by how they differ between groups of cells, as `scanpy.tl.rank_genes_groups`, in `uns`.

    `uns["rank_genes_groups"]` is as scanpy writes it: `sc.get.rank_genes_groups_df` and `sc.pl.rank_genes_groups...`
    read it. Cells are not replicates: p-values say how sure it is that these cells differ, not that the next donor's
    will. For that, `Pseudobulk` and a package for bulk samples (pydeseq2, edgeR).

    Parameters
    ----------
    groupby
        Column of `obs`.
    groups
        Groups to test; all that have two cells by default. All cells are the rest in any case.
    reference
        "rest", or a group with which the others are compared.
    method
        "t-test" (Welch's); "t-test_overestim_var", which takes the rest for as many cells as the group has; or
        "wilcoxon" (rank sums, normal approximation).
    tie_correct
        Whether "wilcoxon" takes ties into account.
    pts
        Whether to note in which part of a group's cells each gene is not zero.
    n_genes
        How many genes to note for each group; all by default.
    rankby_abs
        Whether genes are ordered by the size of the score, whatever its sign.
    corr_method
        "benjamini-hochberg" or "bonferroni".
    layer
        A saved layer of logged values, instead of `X`.
    key_added
        The key in `uns`.

    Raises
    ------
    PlanError
        If values are not logged, or there is no such column, layer or group.
    InputError
        If a group that was named has fewer than two cells, or there is no other cell.

    Warns
    -----
    CellsAsReplicatesWarning
        Unless rows are samples.
    UntestedGroupsWarning
        If groups of one cell were left out, where scanpy raises an error.

    Notes
    -----
    One look at the data, which is that of the pass that writes if nothing else waits. Sums are exact. Ranks are, too:
    values go gene by gene into a temporary file of 6 bytes per non-zero. Genes of equal score stay in the order of
    `var`. Unmeasured genes count as zero, as in scanpy; choose `genes="measured"`.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.RankGenesGroups("cell_type", method="wilcoxon", tie_correct=True).passes
    1
    """

    groupby: str
    groups: Literal["all"] | Sequence[str] = "all"
    reference: str = "rest"
    method: Literal["t-test", "t-test_overestim_var", "wilcoxon"] = "t-test"
    tie_correct: bool = False
    pts: bool = False
    n_genes: int | None = None
    rankby_abs: bool = False
    corr_method: Literal["benjamini-hochberg", "bonferroni"] = "benjamini-hochberg"
    layer: str | None = None
    key_added: str = "rank_genes_groups"
    annotates = True
    by_gene = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name, known in (("method", METHODS), ("corr_method", CORRECTIONS)):
            given = getattr(self, name)
            if given not in known:
                raise InputError(f"RankGenesGroups({name}={given!r}): {' or '.join(map(repr, known))}")
        if self.groups != "all":
            if isinstance(self.groups, str) or not self.groups or len(set(self.groups)) < len(self.groups):
                raise InputError(f"RankGenesGroups(groups={self.groups!r}): a list of groups, each once, or 'all'")
            if set(self.groups) == {self.reference}:
                raise InputError(
                    f"RankGenesGroups: {self.reference!r} is to be compared with itself; name other groups"
                )
        if self.n_genes is not None and self.n_genes < 1:
            raise InputError(f"RankGenesGroups(n_genes={self.n_genes}): from 1 on, or None for all")

    def of(self, spec: StreamSpec) -> Groups:
        """Return the groups."""
        return Groups.of(spec, self.groupby, "RankGenesGroups")

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics and of the tables."""
        n, nnz = min(len(self.of(spec)), max(1, spec.n_obs)), _nnz(spec)
        tables = n * ((16 * spec.n_vars if self.pts else 0) + 32 * min(self.n_genes or spec.n_vars, spec.n_vars))
        ranks = ValuesByGene.memory(n, spec.n_vars, nnz, spec.n_obs) if self.method == "wilcoxon" else 0
        return StatisticsByGroup.memory(n, spec.n_vars, nnz) + 300 * spec.n_vars + tables + ranks

    def disk(self, spec: StreamSpec) -> int:
        """Predict the bytes of temporary files."""
        n = min(len(self.of(spec)), max(1, spec.n_obs))
        ranks = ValuesByGene.disk(_nnz(spec)) if self.method == "wilcoxon" else 0
        return StatisticsByGroup.disk(n, spec.n_vars, _nnz(spec)) + ranks

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless values are logged, and column, layer and groups are there."""
        if self.layer is not None and self.layer not in spec.layers:
            raise PlanError(f"RankGenesGroups: no layer {self.layer!r} was saved; {nearest(self.layer, spec.layers)}")
        holds = spec.holds if self.layer is None else spec.layers[self.layer]
        if holds != Holds.LOGGED:
            raise PlanError(
                f"RankGenesGroups takes logged values, but {'X' if self.layer is None else f'layer {self.layer!r}'} is "
                f"{holds} here; put Log1p() before it, or name a layer of logged values"
            )
        groups = self.of(spec)
        check_number(groups, spec.n_vars, "RankGenesGroups")
        known = groups.categories[0]
        named = [] if self.groups == "all" else list(self.groups)
        for name in [*named, *([] if self.reference == "rest" else [self.reference])]:
            if name not in known:
                raise PlanError(f"RankGenesGroups: obs[{self.groupby!r}] has no {name!r}; {nearest(name, known)}")
        return spec.with_uns(**{self.key_added: tables(self._named(spec, known), 0)})

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Sum up the groups, rank values if asked to, and test."""
        groups, rep = self.of(spec), Representation(self.layer)
        found, ranks = yield Combined(
            StatisticsByGroup(groups, spec.n_vars, rep, others=True),
            ValuesByGene(groups, spec.n_vars, rep) if self.method == "wilcoxon" else None,
        )
        if not spec.samples:
            warnings.warn(
                "RankGenesGroups takes cells for replicates, which they are not: p-values are far too small where "
                "cells of a donor are alike; to compare donors, sum their cells by Pseudobulk and test the samples",
                CellsAsReplicatesWarning,
                stacklevel=2,
            )
        tested = self._tested(found)
        results = self._results(found, ranks, tested, spec)
        params = {
            "groupby": self.groupby,
            "reference": self.reference,
            "method": self.method,
            "use_raw": False,
            "layer": self.layer,
            "corr_method": self.corr_method,
        }
        names = {code: groups.name(code)[0] for code in tested}
        entry: dict[str, Any] = {"params": params}
        for part in ("pts", "pts_rest"):
            if self.pts and (part == "pts" or self.reference == "rest"):
                columns = {name: results[code][part] for code, name in names.items()}
                entry[part] = pd.DataFrame(columns, index=spec.var.index)
        empty = tables(list(names.values()), min(self.n_genes or spec.n_vars, spec.n_vars))
        for part, table in empty.items():
            for code, name in names.items():
                table[name] = results[code][part]
            entry[part] = table
        return AnnotateGenes({}, {self.key_added: entry})

    def _named(self, spec: StreamSpec, known: Sequence[str]) -> list[str]:
        """Return the groups that may be tested, at most; where they are many, those that have cells."""
        named = list(known) if self.groups == "all" else list(self.groups)
        if self.groups == "all" and len(named) > MANY and spec.values is not None:
            cells = spec.values(self.groupby)
            named = [name for name in named if not cells or cells.get(name, 0) >= 2]
        named = [name for name in named if name != self.reference]
        if "" in named:
            raise PlanError(
                f"RankGenesGroups: a group of obs[{self.groupby!r}] has no name (''), and tables have no column for "
                "it; give it one, or name the others in groups=[...]"
            )
        return named

    def _tested(self, found: Statistics) -> list[int]:
        """Return the groups to test, in their order, or raise if one cannot be."""
        known = {found.groups.name(code)[0]: code for code in found.codes if code < len(found.groups)}
        named = list(known) if self.groups == "all" else list(self.groups)
        if self.reference != "rest" and self.reference in named:
            named.remove(self.reference)
        needed = [*(named if self.groups != "all" else []), *([] if self.reference == "rest" else [self.reference])]
        small = [name for name in {*named, *needed} if name not in known or found.n_cells(known[name]) < 2]
        for name in needed:
            if name in small:
                raise InputError(
                    f"RankGenesGroups: group {name!r} of obs[{self.groupby!r}] has fewer than two cells, and no "
                    "variance; leave it out"
                )
        tested = [known[name] for name in named if name not in small]
        n_cells = sum(map(found.n_cells, found.codes))
        if not tested or (self.reference == "rest" and any(found.n_cells(code) == n_cells for code in tested)):
            raise InputError(
                f"RankGenesGroups: obs[{self.groupby!r}] has {len(known)} groups in {n_cells:,} cells; a test needs "
                "two groups, and two cells in a group"
            )
        if small:
            warnings.warn(
                f"RankGenesGroups: groups of one cell were not tested: {', '.join(sorted(small)[:10])}",
                UntestedGroupsWarning,
                stacklevel=3,
            )
        return tested

    def _results(
        self, found: Statistics, ranks: RankSums | None, tested: list[int], spec: StreamSpec
    ) -> dict[int, dict[str, Any]]:
        """Test the groups, one after the other."""
        base = spec.uns.get("log1p", {}).get("base")
        other = None if self.reference == "rest" else self._code(found, self.reference)
        total = np.zeros((spec.n_vars, 5), dtype=np.uint64)
        for one in found.of(None if other is None else [other]):
            kernels.add_entries(one.genes, one.words, total)
        n_total = sum(map(found.n_cells, found.codes)) if other is None else found.n_cells(other)
        sums: Any = None
        ties: Any = None
        if ranks is not None:
            sums, ties = ranks.among_all() if other is None else ranks.beside(other)
        results = {}
        for one in found.of(sorted(tested)):
            words = np.zeros((spec.n_vars, 5), dtype=np.uint64)
            words[one.genes] = one.words
            group, rest = Sample(one.n_cells, words), Sample(n_total, total)
            if other is None:
                left = np.empty_like(total)
                kernels.subtract_words(words, total, left)
                rest = Sample(n_total - one.n_cells, left)
            if ranks is None:
                scores, p = t_test(group, rest, rest.n if self.method == "t-test" else group.n)
            else:
                tied = (ties if other is None else ties[one.code]) if self.tie_correct else None
                scores, p = wilcoxon(sums[one.code], tied, group.n, rest.n)
            results[one.code] = self._noted(group, rest, scores, p, base, spec.var.index)
        return results

    def _noted(
        self,
        group: Sample,
        rest: Sample,
        scores: npt.NDArray[np.float64],
        p: npt.NDArray[np.float64],
        base: float | None,
        genes: pd.Index,
    ) -> dict[str, Any]:
        """Return the first genes of one group, by score, and what is noted of them."""
        order = np.argsort(-(np.abs(scores) if self.rankby_abs else scores), kind="stable")[: self.n_genes]
        noted = {
            "names": genes[order],
            "scores": scores[order],
            "pvals": p[order],
            "pvals_adj": adjusted(p, self.corr_method)[order],
            "logfoldchanges": log_fold_change(group.mean, rest.mean, base)[order],
        }
        return {**noted, "pts": group.fraction, "pts_rest": rest.fraction} if self.pts else noted

    def _code(self, found: Statistics, name: str) -> int:
        return found.groups.categories[0].index(name)


def _nnz(spec: StreamSpec) -> int:
    """Return the most non-zeros that can come."""
    return spec.n_obs * spec.n_vars if spec.nnz is None else spec.nnz

"""Normalisation factors of samples, and genes with enough counts."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Chunk, StreamSpec
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Fit, Transform
from ..stats import kernels
from ..stats.groups import Groups
from ..stats.libraries import USES, Settings, factors
from ..stats.moments import Moments, MomentSums
from ..stats.representation import Representation
from ..stats.samples import PerSample
from ..support.given import check_fields
from .rates import measure_sizes, need_counts
from .select import KeepGenes


@dataclass(frozen=True)
class NormFactors(Settings, Fit):
    """Find by how much samples differ beyond their totals, as edgeR's `calcNormFactors`.

    Adds `obs["libsize"]` (each sample's total), `obs["norm_factors"]` (geometric mean 1) and
    `obs["effective_libsize"]` (their product), all float64; X stays as it is. `CPM`, `LogCPM`, `RPKM`
    and `FilterByExpr` after it go by the effective library size.

    Parameters
    ----------
    method
        "TMM": trimmed mean of M-values against a reference sample (Robinson & Oshlack 2010).
        "TMMwsp": the same with singleton pairing, for many zeros. "RLE": relative log expression
        (Anders & Huber 2010). "upperquartile" (Bullard et al. 2010). "ratio", "poscounts": the median of
        ratios of DESeq2's `estimateSizeFactors`, whose own numbers go to `obs["size_factors"]`.
        "none": factors of 1.
    ref_column
        TMM, TMMwsp: id of the reference sample. None: the one whose upper quartile is nearest the mean (TMM), or
        with the most counts after a square root (TMMwsp). Of several as near, the first in order of the ids.
    logratio_trim, sum_trim
        TMM, TMMwsp: fractions cut off at both ends of the M-values (log ratios) and A-values (log means).
    do_weighting
        TMM, TMMwsp: whether to weight genes by precision.
    acutoff
        TMM: genes with an A-value at or below it are left out.
    p
        upperquartile: which quantile of the genes that any sample has.

    Raises
    ------
    InputError
        If a parameter is given that the method does not use, or the factors do not exist: a sample without any
        counts (TMM), a quantile of 0 (upperquartile), no gene that all samples have (RLE, ratio).

    Notes
    -----
    Source: edgeR 3.40.2 and DESeq2 1.38.3 (`estimateSizeFactorsForMatrix`); equal to them within 1e-12. Works on
    streams of any width: one row, the reference, is held beside a few numbers per sample.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.NormFactors().passes, hr.NormFactors(method="upperquartile", p=0.5).passes
    (4, 2)
    """

    def __post_init__(self) -> None:
        check_fields(self)
        if self.method not in USES:
            raise InputError(f"NormFactors(method={self.method!r}): {nearest(str(self.method), USES)}")
        for field in fields(self):
            given = getattr(self, field.name)
            if field.name not in ("method", *USES[self.method]) and given != field.default:
                raise InputError(f"NormFactors({field.name}={given!r}): method={self.method!r} has no use for it")
        for name, most in (("logratio_trim", 0.5), ("sum_trim", 0.5)):
            if not 0 <= getattr(self, name) < most:
                raise InputError(f"NormFactors({name}={getattr(self, name)!r}): at least 0 and below {most}")
        if not 0 < self.p <= 1:
            raise InputError(f"NormFactors(p={self.p!r}): above 0 and at most 1")

    @property
    def _columns(self) -> list[str]:
        more = ["size_factors"] if self.method in ("ratio", "poscounts") else []
        return ["libsize", "norm_factors", "effective_libsize", *more]

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless X holds counts here."""
        need_counts(spec, "NormFactors")
        return spec.with_obs(**dict.fromkeys(self._columns, "float64"))

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Compare the samples; return what adds their factors to `obs`."""
        table = yield from factors(self, spec.n_vars)
        self._check(table)
        return AnnotateSamples(table[self._columns])

    def _check(self, table: pd.DataFrame) -> None:
        """Raise where edgeR goes on with NaN, zero or infinite factors."""
        bad = table.index[~(np.isfinite(table["norm_factors"]) & (table["norm_factors"] > 0))]
        if not len(bad):
            return
        empty = table.index[table["libsize"] == 0]
        n = len(table)
        if len(empty):
            why = f"{len(empty)} have no counts at all, e.g. {empty[0]!r}; FilterCells(min_counts=1) leaves them out"
        elif self.method in ("RLE", "ratio"):
            why = f"no gene is above zero in all {n} samples; method='poscounts' or 'TMMwsp' needs none"
        elif self.method == "upperquartile":
            why = f"the {self.p:g}-quantile is zero in some samples; raise p, filter genes, or use method='TMMwsp'"
        else:
            why = "too few genes are left after trimming"
        raise InputError(f"NormFactors(method={self.method!r}): {len(bad)} of {n} samples get no factor: {why}")


@dataclass(frozen=True, eq=False)
class AnnotateSamples(Transform):
    """Add columns to `obs`, found by the sample's id.

    Parameters
    ----------
    table
        Indexed by sample; float64.
    """

    table: pd.DataFrame

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the samples with the columns."""
        rows = self.table.loc[chunk.obs.index]
        return chunk.with_obs(**{name: rows[name].to_numpy() for name in rows})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the columns."""
        return spec.with_obs(**dict.fromkeys(self.table.columns, "float64"))


@dataclass(frozen=True)
class FilterByExpr(Fit):
    """Keep the genes that enough samples have enough counts of, as edgeR's `filterByExpr`.

    A gene stays if its counts per million reach those of `min_count` in a library of median size, in as many samples
    as the smallest group has, and if its counts sum to `min_total_count`. Library sizes are those of an
    earlier `NormFactors`, if there is one, as for edgeR's DGEList.

    Parameters
    ----------
    group
        Column of `obs`. None: all samples are one group.
    min_count, min_total_count
        In at least some samples; over all samples.
    large_n, min_prop
        Of a group beyond `large_n` samples, only the fraction `min_prop` counts.

    Raises
    ------
    InputError
        If a sample has no counts, or no gene is left.

    Notes
    -----
    Source: edgeR 3.40.2 (Chen, Lun & Smyth 2016). In the sample of median size, `min_count` is the cutoff itself:
    there, as in edgeR, the last digit of a normalised library size decides.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.FilterByExpr(group="condition").passes
    2
    """

    group: str | None = None
    min_count: float = 10
    min_total_count: float = 15
    large_n: float = 10
    min_prop: float = 0.7
    passes = 2

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("min_count", "min_total_count", "large_n", "min_prop"):
            if not getattr(self, name) > 0:
                raise InputError(f"FilterByExpr({name}={getattr(self, name)!r}): a number above 0")

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless X holds counts and the group is known."""
        need_counts(spec, "FilterByExpr")
        if self.group is not None and self.group not in spec.obs:
            raise PlanError(f"FilterByExpr: obs has no column {self.group!r}; {nearest(self.group, spec.obs.columns)}")
        return spec

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Count, for every gene, the samples that have enough of it."""
        self.preview(spec)
        table = yield PerSample(self._look)
        sizes = table["size"]
        group = table["group"].dropna() if self.group is not None else pd.Series(0, index=table.index)
        if not len(group):
            raise InputError(f"FilterByExpr: obs[{self.group!r}] is missing in all {len(table)} samples")
        smallest = float(group.value_counts().min())
        if smallest > self.large_n:
            smallest = self.large_n + (smallest - self.large_n) * self.min_prop
        cutoff = self.min_count / float(np.median(sizes)) * 1e6
        moments: Moments
        n_samples, moments = yield Expressed(1e6 / sizes, cutoff, spec.n_vars)
        mask = (n_samples >= smallest - 1e-14) & (moments.total[0] >= self.min_total_count - 1e-14)
        if not mask.any():
            raise InputError(f"{self}: none of the {spec.n_vars} genes has enough counts in {smallest:g} samples")
        return KeepGenes(mask)

    def _look(self, X: sparse.csr_array, obs: pd.DataFrame) -> dict[str, Any]:
        sizes = measure_sizes(normalized=True)(X, obs)
        return sizes if self.group is None else {**sizes, "group": obs[self.group].astype(object).to_numpy()}


class Expressed(Accumulator[tuple[npt.NDArray[np.int64], Moments]]):
    """Counts for every gene the samples in which its rate reaches a cutoff, and sums it.

    Parameters
    ----------
    factor
        What a sample's counts are multiplied with, indexed by sample.
    cutoff
        Above 0.
    n_vars
        Number of genes.
    """

    def __init__(self, factor: pd.Series, cutoff: float, n_vars: int) -> None:
        self.factor, self.cutoff = factor, cutoff
        self.counts = np.zeros(n_vars, dtype=np.int64)
        self.moments = MomentSums(Groups(), n_vars)

    def update(self, chunk: Chunk) -> None:
        """Add the samples of one chunk."""
        X = Representation().csr(chunk)
        factor = self.factor.loc[chunk.obs.index].to_numpy()
        kernels.count_at_least(X.indptr, X.indices, X.data, factor, self.cutoff, self.counts)
        self.moments.update(chunk)

    def merge(self, other: Expressed) -> None:
        """Add all that `other` has seen."""
        self.counts += other.counts
        self.moments.merge(other.moments)

    def result(self) -> tuple[npt.NDArray[np.int64], Moments]:
        """Return samples per gene, and sums."""
        return self.counts.copy(), self.moments.result()

"""Counts per million and kilobase: RPKM and TPM."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Fit, Transform
from ..stats import rates
from ..stats.representation import Representation
from ..support.columns import floats
from ..support.given import check_fields
from .normalize import Chain
from .rates import need_counts, refuse_empty, sample_sizes
from .select import KeepGenes

Floats = npt.NDArray[np.float64]


def lengths_of(spec: StreamSpec, column: str, missing: str, step: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the lengths of the genes that have one, and which genes these are; raise as `missing` says."""
    if column not in spec.var:
        raise PlanError(
            f"{step}: var has no column {column!r} with gene lengths; {nearest(column, spec.var)}. "
            "open_counts(..., lengths=...) takes them from a table or a Census"
        )
    lengths = pd.to_numeric(spec.var[column], errors="coerce").to_numpy(np.float64)
    good = lengths > 0
    if not good.any() or (not good.all() and missing == "error"):
        bad = spec.var.index[~good]
        shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise PlanError(
            f"{step}: {len(bad)} of {len(good)} genes have no positive {column}: {shown}"
            + (f"; {step}(missing='drop') drops them" if good.any() else "")
        )
    return lengths[good], good


@dataclass(frozen=True)
class RPKM(Fit):
    """Divide counts by library size in millions and gene length in kilobases, as edgeR's `rpkm`.

    Parameters
    ----------
    column
        Column of `var` with the lengths, in bases.
    missing
        What to do with genes without a positive length: "error", or "drop" them. They are dropped first, so that
        sums of samples are over the genes that are left.
    normalized_libsize
        As in `CPM`.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.RPKM(column="length", missing="drop").missing
    'drop'
    """

    column: str = "feature_length"
    missing: Literal["error", "drop"] = "error"
    normalized_libsize: bool = True
    passes = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.missing not in ("error", "drop"):
            raise InputError(f"{type(self).__name__}(missing={self.missing!r}): 'error' or 'drop'")

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless X holds counts and genes have lengths."""
        need_counts(spec, "RPKM")
        return self._resolve(spec).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Look the lengths up; no data is read."""
        return self._resolve(spec)
        yield  # a generator that needs no data

    def _resolve(self, spec: StreamSpec) -> Transform:
        lengths, mask = lengths_of(spec, self.column, self.missing, "RPKM")
        return Chain((KeepGenes(mask), PerKilobase(lengths, self.normalized_libsize)))


@dataclass(frozen=True, eq=False)
class PerKilobase(Transform):
    """Divide by library size and length; see `RPKM`."""

    lengths: Floats
    normalized_libsize: bool

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the scaled samples."""
        X = Representation().csr(chunk)
        sizes = refuse_empty(sample_sizes(X, chunk.obs, self.normalized_libsize), chunk.obs.index)
        return chunk.with_X(rates.rpkm(X, sizes, self.lengths).astype(np.float32))

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the scaled stream."""
        return replace(spec, holds=Holds.NORMALIZED)


@dataclass(frozen=True)
class TPM(Fit):
    """Turn counts into transcripts per million: counts per base, scaled to a total of 1e6 (Li & Dewey 2011).

    Parameters
    ----------
    column, missing
        As in `RPKM`.
    normalized
        False: every sample sums to 1e6. True: to 1e6 over its factor in `obs["norm_factors"]`, which an earlier
        `NormFactors` must have written.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.TPM().normalized
    False
    """

    column: str = "feature_length"
    missing: Literal["error", "drop"] = "error"
    normalized: bool = False
    passes = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.missing not in ("error", "drop"):
            raise InputError(f"{type(self).__name__}(missing={self.missing!r}): 'error' or 'drop'")

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless X holds counts, genes have lengths, and samples their factors if asked for."""
        need_counts(spec, "TPM")
        if self.normalized and "norm_factors" not in spec.obs:
            raise PlanError("TPM(normalized=True): obs has no 'norm_factors'; put NormFactors() before it")
        return self._resolve(spec).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Look the lengths up; no data is read."""
        return self._resolve(spec)
        yield  # a generator that needs no data

    def _resolve(self, spec: StreamSpec) -> Transform:
        lengths, mask = lengths_of(spec, self.column, self.missing, "TPM")
        return Chain((KeepGenes(mask), PerMillion(lengths, self.normalized)))


@dataclass(frozen=True, eq=False)
class PerMillion(Transform):
    """Divide by length and scale to a million; see `TPM`."""

    lengths: Floats
    normalized: bool

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the scaled samples; one without counts stays as it is."""
        factors = floats(chunk.column("norm_factors")) if self.normalized else None
        return chunk.with_X(rates.tpm(Representation().csr(chunk), self.lengths, factors).astype(np.float32))

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the scaled stream."""
        return replace(spec, holds=Holds.NORMALIZED)

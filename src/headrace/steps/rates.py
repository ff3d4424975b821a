"""Counts per million, and their logarithm."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from math import fsum, isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError
from ..protocols import Accumulator, Fit, Transform
from ..stats import rates
from ..stats.cells import library_sizes
from ..stats.representation import Representation
from ..stats.samples import PerSample
from ..support.columns import floats
from ..support.given import FLOAT32, check_fields, check_range

Floats = npt.NDArray[np.float64]


def need_counts(spec: StreamSpec, step: str) -> None:
    """Raise unless X may hold counts; expected counts, which are not whole, will do."""
    if spec.holds not in (Holds.COUNTS, Holds.UNKNOWN):
        raise PlanError(
            f"{step} needs counts, but X is {spec.holds} here; put it before that step, or UseLayer('counts')"
        )


def sample_sizes(X: sparse.csr_array, obs: pd.DataFrame, normalized: bool = True) -> Floats:
    """Return `obs["effective_libsize"]` if `normalized` and there, else the sum of each row."""
    if normalized and "effective_libsize" in obs:
        return floats(obs["effective_libsize"])
    return library_sizes(X)


def measure_sizes(normalized: bool) -> Callable[[sparse.csr_array, pd.DataFrame], dict[str, Any]]:
    """Return what has `PerSample` collect the library sizes as `size`; a sample without counts is an error."""

    def measure(X: sparse.csr_array, obs: pd.DataFrame) -> dict[str, Any]:
        return {"size": refuse_empty(sample_sizes(X, obs, normalized), obs.index)}

    return measure


def refuse_empty(sizes: Floats, names: pd.Index) -> Floats:
    """Return the library sizes, or raise if one is not above 0."""
    bad = np.flatnonzero(~(sizes > 0))
    if len(bad):
        raise InputError(
            f"sample {names[bad[0]]!r} has a library size of {sizes[bad[0]]:g}, so its rates are not known; "
            "FilterCells(min_counts=1) leaves such samples out, and NormalizeTotal(1e6) gives them zeros"
        )
    return sizes


@dataclass(frozen=True)
class Libsize(Transform):
    """Add every sample's total at this point to `obs`; X stays as it is.

    Parameters
    ----------
    key_added
        Name of the column, float64.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.Libsize()
    Libsize(key_added='libsize')
    """

    key_added: str = "libsize"

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the samples with the column."""
        return chunk.with_obs(**{self.key_added: library_sizes(chunk.X)})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the column."""
        return spec.with_obs(**{self.key_added: "float64"})


@dataclass(frozen=True)
class CPM(Transform):
    """Divide counts by the library size in millions, as edgeR's `cpm`.

    Parameters
    ----------
    normalized_libsize
        True: go by the effective library size of an earlier `NormFactors`; without such a step this is the sum of
        the sample. False: go by the sum. (edgeR's `normalized.lib.sizes`.)

    Raises
    ------
    InputError
        If a sample has no counts. `NormalizeTotal(1e6)` is the same without factors, and gives zeros there.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.CPM().normalized_libsize
    True
    """

    normalized_libsize: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the scaled samples."""
        X = Representation().csr(chunk)
        sizes = refuse_empty(sample_sizes(X, chunk.obs, self.normalized_libsize), chunk.obs.index)
        return chunk.with_X(rates.cpm(X, sizes).astype(np.float32))

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the scaled stream."""
        need_counts(spec, "CPM")
        return replace(spec, holds=Holds.NORMALIZED)


@dataclass(frozen=True)
class LogCPM(Fit):
    """Take log2 of counts per million after adding a prior count, as edgeR's `cpm(log=TRUE)`. Makes X dense.

    log2((x + p) / (size + 2 p) * 1e6), where p is `prior_count` times the sample's size over the mean size. X is a
    dense float32 array afterwards, since 0 counts are a number other than 0, and counts as logged.

    Parameters
    ----------
    prior_count
        Added to a sample of mean size.
    normalized_libsize
        As in `CPM`.

    Raises
    ------
    InputError
        If a sample has no counts.

    Notes
    -----
    Source: edgeR 3.40.2. One pass for the mean library size. `uns["logcpm"]` keeps base and prior.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.LogCPM(prior_count=0.5).passes
    1
    """

    prior_count: float = 2
    normalized_libsize: bool = True
    densifies = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.prior_count > 0 and isfinite(self.prior_count)):
            raise InputError(f"LogCPM(prior_count={self.prior_count!r}): a number above 0")
        check_range(self, "prior_count", *FLOAT32)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless X holds counts here."""
        need_counts(spec, "LogCPM")
        return LogRates(self.prior_count, 1.0, self.normalized_libsize).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the mean library size."""
        del spec
        table: pd.DataFrame = yield PerSample(measure_sizes(self.normalized_libsize))
        return LogRates(self.prior_count, fsum(table["size"]) / len(table), self.normalized_libsize)


@dataclass(frozen=True)
class LogRates(Transform):
    """Write log2 counts per million, given the mean library size; see `LogCPM`."""

    prior_count: float
    mean_size: float
    normalized_libsize: bool

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the logged samples, dense."""
        X = Representation().csr(chunk)
        sizes = sample_sizes(X, chunk.obs, self.normalized_libsize)
        return chunk.with_X(rates.log_cpm(X, sizes, self.mean_size, self.prior_count, np.float32))

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the logged stream."""
        entry = {"prior_count": float(self.prior_count), "base": 2.0}
        return replace(spec, holds=Holds.LOGGED).with_uns(logcpm=entry)

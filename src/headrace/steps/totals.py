"""Scaling of cells by their totals."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from math import fsum, isfinite
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError
from ..protocols import Accumulator, Fit, Transform
from ..stats import kernels
from ..stats.cells import DominantGenes, LibrarySizes, Sizes
from ..support.given import FLOAT32, check_fields, check_range
from .bounds import check_numeric
from .normalize import Log1p

Floats = npt.NDArray[np.float64]


class ScaledTwiceWarning(UserWarning):
    """A plan scales cells to totals, and then again, with nothing between that changes them.

    Examples
    --------
    >>> import warnings, numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> obs, var = pd.DataFrame(index=["x", "y"]), pd.DataFrame(index=["g", "h"])
    >>> cells = ArraySource(np.array([[3.0, 1], [0, 2]]), obs, var)
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     plan = hr.Plan(cells, [hr.NormalizeTotal(1e4), hr.NormalizeTotal(1e6)])
    >>> print(told[0].message)
    NormalizeTotal(target_sum=1000000.0) scales cells that NormalizeTotal(target_sum=10000.0) has scaled already; ...
    """


@dataclass(frozen=True)
class NormalizeTotal(Fit):
    """Scale every cell to the same total, as `scanpy.pp.normalize_total`.

    A cell's total is over the genes that are left at this point, unless `size` names a column that
    knows it. A cell without counts stays as it is.

    Parameters
    ----------
    target_sum
        The total after scaling, e.g. 1e4. None: the median total of the cells that have counts,
        which takes a pass over the data.
    exclude_highly_expressed
        Whether to leave out of the totals (not of `X`) the genes that have more than `max_fraction`
        of the counts of any cell (Weinreb et al. 2017). Takes a pass over the data.
    max_fraction
        How much of a cell is too much, between 0 and 1.
    size
        A column of `obs` with the totals, e.g. "raw_sum" of the Census: a plan on a few
        genes then still divides by the whole cell. None: the sum of X.
    key_added
        Name of a column of `obs` for what each cell is divided by: its total / `target_sum`, as in scanpy.

    Notes
    -----
    scanpy 1.11 takes the median over cells without counts too if X is sparse, but not if it is
    dense; this is as for dense X.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.NormalizeTotal(target_sum=1e4).passes, hr.NormalizeTotal().passes
    (0, 1)
    >>> hr.NormalizeTotal(exclude_highly_expressed=True).passes
    2
    """

    target_sum: float | None = None
    exclude_highly_expressed: bool = False
    max_fraction: float = 0.05
    size: str | None = None
    key_added: str | None = None
    needs_counts = True
    scales_cells = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.target_sum is not None and not (self.target_sum > 0 and isfinite(self.target_sum)):
            raise InputError(
                f"NormalizeTotal(target_sum={self.target_sum!r}): a positive number, or None for the median"
            )
        check_range(self, "target_sum", *FLOAT32)
        if not 0 <= self.max_fraction <= 1:
            raise InputError(f"NormalizeTotal(max_fraction={self.max_fraction!r}): between 0 and 1")
        if self.max_fraction != 0.05 and not self.exclude_highly_expressed:
            raise InputError("NormalizeTotal: max_fraction is only used with exclude_highly_expressed=True")
        if self.size is not None and self.exclude_highly_expressed:
            raise InputError(
                "NormalizeTotal: with size=, totals are given, so exclude_highly_expressed changes nothing"
            )

    @property
    def passes(self) -> int:
        """One to find the median, one to find highly expressed genes."""
        return int(self.target_sum is None) + int(self.exclude_highly_expressed)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if totals have no meaning here."""
        _check_totals("NormalizeTotal", self.size, spec)
        _check_unlogged("NormalizeTotal", spec)
        return ScaleToTotal(self.target_sum or 1.0, Sizes(self.size), self.key_added).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the genes to leave out and the median total, if they are asked for."""
        sizes = Sizes(self.size)
        if self.exclude_highly_expressed:
            dominant: npt.NDArray[np.bool_] = yield DominantGenes(spec.n_vars, self.max_fraction)
            sizes = Sizes(chosen=~dominant)
        target = self.target_sum
        if target is None:
            totals: Floats = yield LibrarySizes(sizes=sizes)
            target = float(np.median(_positive("NormalizeTotal", totals)))
        return ScaleToTotal(target, sizes, self.key_added)


@dataclass(frozen=True)
class ScaleToTotal(Transform):
    """Multiply every cell by `target_sum` / its size; `divisor` names a column for the inverse."""

    target_sum: float
    sizes: Sizes = field(default_factory=Sizes)
    divisor: str | None = None

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the scaled cells."""
        X = chunk.X
        assert not isinstance(X, np.ndarray), "values that have totals are sparse"
        sizes = self.sizes(chunk)
        factor = self.target_sum / np.where(sizes > 0, sizes, self.target_sum)
        data = np.empty_like(X.data)
        kernels.scale_rows(X.indptr, X.data, factor, data)
        chunk = chunk.with_data(data)
        return chunk if self.divisor is None else chunk.with_obs(**{self.divisor: sizes / self.target_sum})

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream of scaled cells."""
        holds = spec.holds if spec.holds == Holds.LOGGED else Holds.NORMALIZED
        spec = replace(spec, holds=holds, scaling=None)
        return spec if self.divisor is None else spec.with_obs(**{self.divisor: "float64"})


@dataclass(frozen=True)
class SizeFactors(Fit):
    """Divide every cell by its library size factor, as `scuttle::librarySizeFactors`.

    A size factor is a cell's total / the mean total, so that 1 is an average cell and values stay
    near counts. With `Log1p(base=2)` after it this is `scuttle::logNormCounts`. A cell without counts has
    size factor 0 and stays as it is. Needs one pass over the data.

    Parameters
    ----------
    size
        A column of `obs` with the totals, e.g. "raw_sum". None: the sum of X.
    key_added
        Name of the column of `obs` for the size factors, as scuttle calls it.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[1], [3]]), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g"]))
    >>> hr.Plan(source, [hr.SizeFactors()]).to_anndata().obs["sizeFactor"].tolist()
    [0.5, 1.5]
    """

    size: str | None = None
    key_added: str = "sizeFactor"
    needs_counts = True
    scales_cells = True

    def __post_init__(self) -> None:
        check_fields(self)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if totals have no meaning here."""
        _check_totals("SizeFactors", self.size, spec)
        _check_unlogged("SizeFactors", spec)
        return ScaleToTotal(1.0, Sizes(self.size), self.key_added).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the mean total."""
        sizes = Sizes(self.size)
        totals: Floats = yield LibrarySizes(sizes=sizes)
        _positive("SizeFactors", totals)
        return ScaleToTotal(fsum(totals) / len(totals), sizes, self.key_added)


@dataclass(frozen=True)
class ProportionalFitting(Fit):
    """Scale every cell to the mean total of all cells; of values of any kind, logged ones too.

    Needs one pass over the data. See `PFlogPF`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[1], [3]]), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g"]))
    >>> hr.Plan(source, [hr.ProportionalFitting()]).to_anndata().X.toarray().tolist()
    [[2.0], [2.0]]
    """

    scales_cells = True

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if totals have no meaning here."""
        _check_totals("ProportionalFitting", None, spec)
        return ScaleToTotal(1.0).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the mean total."""
        totals: Floats = yield LibrarySizes()
        _positive("ProportionalFitting", totals)
        return ScaleToTotal(fsum(totals) / len(totals))


@dataclass(frozen=True)
class PFlogPF(Sequence[Any]):
    """Proportional fitting, log1p, proportional fitting (Booeshaghi et al. 2022): three steps in one, two passes.

    Examples
    --------
    >>> import headrace as hr
    >>> [type(step).__name__ for step in hr.PFlogPF()]
    ['ProportionalFitting', 'Log1p', 'ProportionalFitting']
    """

    def __len__(self) -> int:
        return 3

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return one of the three steps."""
        return (ProportionalFitting(), Log1p(), ProportionalFitting())[index]


def _check_totals(step: str, size: str | None, spec: StreamSpec) -> None:
    if spec.holds == Holds.STANDARDIZED:
        raise PlanError(f"{step}: X is standardized here, so a cell's total means nothing; put it before")
    if size is not None:
        check_numeric(step, size, spec)


def _check_unlogged(step: str, spec: StreamSpec) -> None:
    if spec.holds == Holds.LOGGED:
        raise PlanError(
            f"{step}: X is logged here already, and a sum of logarithms is no total; put it before that step, or read "
            "the layer with counts (to scale logged values as PFlogPF does, use ProportionalFitting())"
        )


def _positive(step: str, totals: Floats) -> Floats:
    positive = totals[totals > 0]
    if not len(positive):
        raise InputError(f"{step}(): no cell has any counts, so there is no average total")
    return positive

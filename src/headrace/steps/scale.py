"""Standardised values, and Pearson residuals."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError
from ..protocols import Accumulator, Fit, Transform
from ..scaling import Scaling
from ..stats import kernels
from ..stats.bygroup import MomentsByGroup, SumsByGroup
from ..stats.cells import library_sizes
from ..stats.groups import Groups
from ..support.given import check_fields

Floats = npt.NDArray[np.float64]

ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""A variance below this share of the squared mean is what is left of rounding it: the gene is constant."""


@dataclass(frozen=True)
class Scale(Fit):
    """Scale every gene to unit variance and mean 0, as `scanpy.pp.scale`.

    Adds `var["mean"]` and `var["std"]`, before scaling. A gene that does not vary becomes 0. Needs one pass
    over the data, which `store=False` shares with others.

    Parameters
    ----------
    max_value
        Values beyond it (and beyond its negative, with `zero_center`) are clipped to it.
    zero_center
        True subtracts the mean. `X` is dense then, cells x genes x 4 bytes, and written so; put
        `SelectGenes("highly_variable")` before it if that is too much. False only divides, and `X` stays sparse.
    store
        False leaves `X` as it is: `PCA`, which is to come next, takes scaled values, and they are never written.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[1, 0], [3, 0]]), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g", "h"]))
    >>> hr.Plan(source, [hr.Scale()]).to_anndata().X.round(3)
    array([[-0.707,  0.   ],
           [ 0.707,  0.   ]], dtype=float32)
    """

    max_value: float | None = None
    zero_center: bool = True
    store: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_value is not None and not self.max_value > 0:
            raise InputError(f"Scale(max_value={self.max_value!r}): a positive number, or None not to clip")

    @property
    def densifies(self) -> bool:
        """Whether `X` is dense afterwards."""
        return self.zero_center and self.store

    @property
    def annotates(self) -> bool:
        """Whether it leaves `X` as it is."""
        return not self.store

    @property
    def by_gene(self) -> bool:
        """Whether it learns of each gene alone, and changes nothing."""
        return not self.store

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics."""
        return SumsByGroup.memory(1, spec.n_vars, whole=False)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if the values are on that scale already."""
        if spec.holds == Holds.STANDARDIZED or (spec.scaling is not None and spec.scaling.holds == spec.holds):
            raise PlanError("Scale: X is standardized here already; remove one of the two steps")
        return self._scaled(np.zeros(spec.n_vars), np.ones(spec.n_vars), spec).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find mean and standard deviation of every gene."""
        moments: MomentsByGroup = yield SumsByGroup(Groups(), spec.n_vars, whole=False)
        of = moments.all()
        mean = of.mean
        std = np.sqrt(np.where(of.var > ROUNDING * mean**2, of.var, 0.0))
        std[std == 0] = 1.0
        return self._scaled(mean, std, spec)

    def _scaled(self, mean: Floats, std: Floats, spec: StreamSpec) -> Transform:
        holds = Holds.STANDARDIZED if self.store else spec.holds
        scaling = Scaling(mean, std, self.max_value or inf, self.zero_center, self.store, holds)
        return Standardize(scaling) if self.store else NoteScaling(scaling)


@dataclass(frozen=True, eq=False)
class Standardize(Transform):
    """Subtract each gene's mean, if `zero_center`, and divide by its standard deviation."""

    scaling: Scaling

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the scaled cells."""
        X, by = sparse.csr_array(chunk.X), self.scaling
        if not by.zero_center:
            data = np.empty_like(X.data)
            kernels.scale_columns(X.indices, X.data, by.std, by.most, data)
            return chunk.with_data(data)
        out = np.empty(X.shape, dtype=np.float32)
        kernels.standardize(X.indptr, X.indices, X.data, by.mean, by.std, by.most, out)
        return chunk.with_X(out)

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream of scaled cells."""
        spec = replace(spec, holds=Holds.STANDARDIZED, scaling=self.scaling)
        return spec.with_var(mean=self.scaling.mean, std=self.scaling.std)


@dataclass(frozen=True, eq=False)
class NoteScaling(Transform):
    """Say how genes are to be scaled; the cells stay as they are."""

    scaling: Scaling
    by_gene = True
    keeps_values = True
    reads_obs = ()

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the same cells."""
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the scaling."""
        return replace(spec, scaling=self.scaling).with_var(mean=self.scaling.mean, std=self.scaling.std)


@dataclass(frozen=True)
class NormalizePearsonResiduals(Fit):
    """Turn counts into Pearson residuals, as `scanpy.experimental.pp.normalize_pearson_residuals`.

    A residual is how far a count is from what the totals of its cell and its gene let expect, in
    standard deviations of a negative binomial (Lause et al. 2021). `X` is dense then; put `SelectGenes` before it
    if that is too much. Needs one pass over the data.

    Parameters
    ----------
    theta
        Overdispersion, shared by all genes; infinity is a Poisson model.
    clip
        Residuals are within -clip and clip. None: the square root of the number of cells.

    Notes
    -----
    A gene or cell without counts has residual 0, where scanpy has NaN.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[1, 0], [1, 2]]), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g", "h"]))
    >>> hr.Plan(source, [hr.NormalizePearsonResiduals()]).to_anndata().X.round(3)
    array([[ 0.705, -0.705],
           [-0.405,  0.405]], dtype=float32)
    """

    theta: float = 100.0
    clip: float | None = None
    needs_counts = True
    densifies = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.theta > 0:
            raise InputError(f"NormalizePearsonResiduals(theta={self.theta!r}): above 0")
        if self.clip is not None and not self.clip >= 0:
            raise InputError(f"NormalizePearsonResiduals(clip={self.clip!r}): not negative, or None")

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics."""
        return SumsByGroup.memory(1, spec.n_vars, whole=spec.fractional is False)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless X holds counts."""
        if spec.holds not in (Holds.COUNTS, Holds.UNKNOWN):
            raise PlanError(
                f"NormalizePearsonResiduals takes counts, but X is {spec.holds} here; put it before that step"
            )
        return replace(spec, holds=Holds.STANDARDIZED)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the total of every gene."""
        moments: MomentsByGroup = yield SumsByGroup(Groups(), spec.n_vars, whole=spec.fractional is False)
        of = moments.all()
        return Residuals(of.total, self.theta, sqrt(of.n) if self.clip is None else self.clip)


@dataclass(frozen=True, eq=False)
class Residuals(Transform):
    """Replace counts by clipped Pearson residuals; `totals` are the genes' sums, shape (n_vars,)."""

    totals: Floats
    theta: float
    clip: float

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the residuals of the cells."""
        X = sparse.csr_array(chunk.X)
        out = np.empty(X.shape, dtype=np.float32)
        total = max(float(self.totals.sum()), 1.0)  # whole numbers: exact in any order
        kernels.residuals(X.indptr, X.indices, X.data, library_sizes(X), self.totals, total, self.theta, self.clip, out)
        return chunk.with_X(out)

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream of residuals, and note the settings as scanpy does."""
        entry = {"theta": self.theta, "clip": self.clip, "computed_on": "adata.X"}
        return replace(spec, holds=Holds.STANDARDIZED).with_uns(pearson_residuals_normalization=entry)

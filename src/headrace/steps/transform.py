"""Element-wise transforms: square root and inverse hyperbolic sine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError
from ..protocols import Transform
from ..stats import kernels
from ..support.given import FLOAT32, check_fields, check_range
from .check import check_defined


def map_values(chunk: Chunk, values: npt.NDArray[np.float32]) -> Chunk:
    """Return the cells with new values in place of `values_of(chunk)`."""
    return chunk.with_X(values.reshape(chunk.X.shape)) if isinstance(chunk.X, np.ndarray) else chunk.with_data(values)


def values_of(chunk: Chunk) -> npt.NDArray[np.float32]:
    """Return what is stored of X, flat."""
    return chunk.X.ravel() if isinstance(chunk.X, np.ndarray) else chunk.X.data


def transformed(step: str, spec: StreamSpec) -> StreamSpec:
    """Describe a stream whose values were transformed, or raise if zero has no meaning there."""
    if spec.holds in (Holds.LOGGED, Holds.STANDARDIZED):
        raise PlanError(f"{step}: X is {spec.holds} here already; remove one of the two steps")
    return replace(spec, holds=Holds.NORMALIZED)


@dataclass(frozen=True)
class Sqrt(Transform):
    """Take the square root, as `scanpy.pp.sqrt`: it makes the variance of counts nearly constant.

    Raises
    ------
    CountsError
        While reading: at a value below 0.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[4, 9]]), pd.DataFrame(index=["a"]), pd.DataFrame(index=["g", "h"]))
    >>> hr.Plan(source, [hr.Sqrt()]).to_anndata().X.toarray()
    array([[2., 3.]], dtype=float32)
    """

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the square roots."""
        with np.errstate(invalid="ignore"):
            roots = np.sqrt(values_of(chunk))
        check_defined("Sqrt", "square root", chunk, roots)
        return map_values(chunk, roots)

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream."""
        return transformed("Sqrt", spec)


@dataclass(frozen=True)
class Arcsinh(Transform):
    """Take the inverse hyperbolic sine of x / cofactor: linear near 0, logarithmic above.

    Parameters
    ----------
    cofactor
        Where the one becomes the other.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[0, 5]]), pd.DataFrame(index=["a"]), pd.DataFrame(index=["g", "h"]))
    >>> hr.Plan(source, [hr.Arcsinh(cofactor=5)]).to_anndata().X.toarray().round(4)
    array([[0.    , 0.8814]], dtype=float32)
    """

    cofactor: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.cofactor > 0 and isfinite(self.cofactor)):
            raise InputError(f"Arcsinh(cofactor={self.cofactor!r}): a positive number")
        check_range(self, "cofactor", *FLOAT32)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the transformed values."""
        values = values_of(chunk)
        out = np.empty_like(values)
        kernels.arcsinh(values, 1.0 / self.cofactor, out)
        return map_values(chunk, out)

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream."""
        return transformed("Arcsinh", spec)

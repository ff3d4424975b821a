"""Principal components from sums of products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg
from threadpoolctl import threadpool_limits

from . import kernels
from .gram import GramSums, Products

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components.

    Parameters
    ----------
    loadings
        Shape (genes, components); each component has length 1, and its largest loading is positive.
    variance
        Of the scores of each component.
    variance_ratio
        The same as a share of the variance of all genes together.
    offset
        What is taken from the product of a cell's values (less what zero becomes) and the loadings: its mean, if scores
        are centred.
    """

    loadings: Floats
    variance: Floats
    variance_ratio: Floats
    offset: Floats


def components(sums: GramSums, found: Products, n_comps: int, zero_center: bool) -> Components:
    """Return the first principal components, as scikit-learn's `PCA`, or its `TruncatedSVD` if not `zero_center`.

    In float64, by LAPACK on one thread, so that the number of threads does not show. `found.products` are used up: the
    covariances take their place.
    """
    values, n = sums.values, found.n
    weight = values.weights
    mean = found.totals / (sums.unit * weight * n)
    matrix = found.products.view(np.float64)
    zero = values.zero
    if zero_center:
        kernels.covariances(found.products, mean * n, float(n), n - 1.0, weight, matrix)
        total, spread = float(np.trace(matrix)), None
    else:
        kernels.covariances(found.products, mean, np.inf, float(n), weight, matrix)
        for left, right in ((zero, mean), (mean, zero), (zero, zero)):
            matrix += np.outer(left, right)
        spread = mean + zero
        total = float(np.trace(matrix) - spread @ spread)
    genes = len(matrix)
    with threadpool_limits(1, user_api="blas"):
        # symmetric, so its transpose is itself, in the order that LAPACK takes without a copy
        squares, vectors = linalg.eigh(
            matrix.T, subset_by_index=[genes - n_comps, genes - 1], driver="evr", overwrite_a=True, check_finite=False
        )
        vectors = np.ascontiguousarray(vectors[:, ::-1])
        largest = np.abs(vectors).argmax(axis=0)
        vectors *= np.sign(vectors[largest, np.arange(n_comps)])
        variance = np.maximum(squares[::-1], 0.0)
        if spread is not None:
            variance = np.maximum(variance - (spread @ vectors) ** 2, 0.0)
        offset = (mean if zero_center else -zero) @ vectors
    return Components(vectors, variance, variance / total if total > 0 else np.zeros(n_comps), offset)

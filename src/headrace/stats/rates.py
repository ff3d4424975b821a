"""Counts per million, RPKM, TPM and their logarithms, in float64.

A count of 0 stays 0, so matrices stay sparse, except for `log_cpm`: the logarithm of nothing plus a
prior is a number like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..chunk import csr
from . import kernels

Floats = npt.NDArray[np.float64]


def from_dense(X: npt.NDArray[Any], dtype: npt.DTypeLike) -> sparse.csr_array:
    """Return a dense matrix as CSR, in half the time that scipy takes and without its index arrays."""
    X = np.ascontiguousarray(X)
    n = np.array([np.count_nonzero(row) for row in X], dtype=np.int64)
    indptr: Any = np.concatenate([[0], np.cumsum(n)]).astype(np.int32 if n.sum() < 2**31 else np.int64)
    indices, data = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=dtype)
    kernels.dense_rows(X, indptr, indices, data)
    return csr(data, indices, indptr, X.shape[1])


def cpm(X: sparse.csr_array, sizes: Floats) -> sparse.csr_array:
    """Return x / size * 1e6, samples x genes; as edgeR's `cpm`.

    Parameters
    ----------
    X
        Counts, samples x genes.
    sizes
        Library sizes, shape (samples,), above 0.
    """
    data = np.empty(len(X.data))
    kernels.scale_rows(X.indptr, X.data, 1e6 / sizes, data)
    return csr(data, X.indices, X.indptr, X.shape[1])  # type: ignore[arg-type] # float64 here, by design


def rpkm(X: sparse.csr_array, sizes: Floats, lengths: Floats) -> sparse.csr_array:
    """Return counts per million and kilobase, as edgeR's `rpkm`; `lengths` in bases, shape (genes,)."""
    return _per_kilobase(cpm(X, sizes), lengths)


def tpm(X: sparse.csr_array, lengths: Floats, factors: Floats | None = None) -> sparse.csr_array:
    """Return transcripts per million: counts per base, scaled to a total of 1e6 (Li & Dewey 2011).

    Parameters
    ----------
    X
        Counts, samples x genes.
    lengths
        In bases, shape (genes,).
    factors
        Normalisation factors, shape (samples,): each sample's total is then 1e6 / its factor.
    """
    rate = _per_kilobase(X, lengths)
    totals = np.empty(X.shape[0])
    kernels.row_sums(rate.indptr, rate.data, totals)
    totals[totals == 0] = 1.0  # a row without counts has nothing to scale
    return cpm(rate, totals if factors is None else totals * factors)


def log_cpm(
    X: sparse.csr_array, sizes: Floats, mean_size: float, prior_count: float, dtype: npt.DTypeLike = np.float64
) -> npt.NDArray[np.floating]:
    """Return log2 counts per million, samples x genes, dense; as edgeR's `cpm(log=TRUE)`.

    log2((x + p) / (size + 2 p) * 1e6), where p is `prior_count` times size over the mean size.
    """
    prior = prior_count * sizes / mean_size
    out = np.empty(X.shape, dtype=dtype)
    kernels.log_rates(X.indptr, X.indices, X.data, prior, sizes + 2 * prior, out)
    return out


def _per_kilobase(X: sparse.csr_array, lengths: Floats) -> sparse.csr_array:
    data = np.empty(len(X.data))
    kernels.divide_columns(X.indptr, X.indices, X.data, np.ones(X.shape[0], dtype=bool), lengths / 1000, data)
    return csr(data, X.indices, X.indptr, X.shape[1])  # type: ignore[arg-type] # float64 here, by design

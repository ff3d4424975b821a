"""Element-wise functions and scaling of rows."""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled

_LN2 = 0.6931471805599453


@compiled
def scale_rows(indptr, data, factor, out):  # type: ignore[no-untyped-def]
    """Multiply each row by a float64."""
    for r in range(len(indptr) - 1):
        start, stop, f = indptr[r], indptr[r + 1], factor[r]
        x, y = data[start:stop], out[start:stop]
        for k in range(len(x)):
            y[k] = x[k] * f


@compiled
def divide_columns(indptr, indices, data, rows, divisor, out):  # type: ignore[no-untyped-def]
    """Divide the values of the chosen rows by their column's float64; copy the others."""
    for r in range(len(indptr) - 1):
        start, stop = indptr[r], indptr[r + 1]
        j, x, y = indices[start:stop], data[start:stop], out[start:stop]
        if rows[r]:
            for k in range(len(x)):
                y[k] = x[k] / divisor[np.uint32(j[k])]
        else:
            for k in range(len(x)):
                y[k] = x[k]


@compiled
def log1p(data, scale, out):  # type: ignore[no-untyped-def]
    """Write log(1 + x) * scale, in float64 to 1e-13 relative; NaN for x <= -1.

    1 + x = m * 2**e with m around 1; log(m) = 2 atanh((m - 1) / (m + 1)) as a series; what
    rounding 1 + x has lost is put back. The same on every processor, unlike the libraries' own.
    """
    for k in range(len(data)):
        x = np.float64(data[k])
        u = 1.0 + x
        lost = (x - (u - 1.0)) / u
        bits = np.float64(u).view(np.uint64)
        # sqrt(1/2) <= m < sqrt(2): shift the exponent's boundary, then cut it out
        shifted = bits - np.uint64(0x3FE6A09E667F3BCD)
        e = np.int64(shifted) >> np.int64(52)
        m = np.uint64(bits - (np.uint64(e) << np.uint64(52))).view(np.float64)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        series = 1.0 / 11 + z * (1.0 / 13 + z * (1.0 / 15 + z * (1.0 / 17)))
        series = 1.0 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * series))))
        value = (e * _LN2 + (2.0 * s * series + lost)) * scale
        out[k] = value if u > 0.0 else np.nan


@compiled
def expm1(data, scale, out):  # type: ignore[no-untyped-def]
    """Write exp(x * scale) - 1, each by the same scalar function wherever it stands."""
    for k in range(len(data)):
        out[k] = math.expm1(np.float64(data[k]) * scale)


@compiled
def arcsinh(data, scale, out):  # type: ignore[no-untyped-def]
    """Write asinh(x * scale), each by the same scalar function wherever it stands."""
    for k in range(len(data)):
        out[k] = math.asinh(np.float64(data[k]) * scale)


@compiled
def scale_columns(indices, data, std, most, out):  # type: ignore[no-untyped-def]
    """Divide by the column's float64; nothing above `most`."""
    for k in range(len(data)):
        out[k] = min(most, data[k] / std[np.uint32(indices[k])])


@compiled
def standardize(indptr, indices, data, mean, std, most, out):  # type: ignore[no-untyped-def]
    """Fill the dense `out` with (x - mean) / std, within -most and most."""
    for r in range(len(indptr) - 1):
        k, end = indptr[r], indptr[r + 1]
        for j in range(len(mean)):
            x = 0.0
            if k < end and indices[k] == j:
                x = np.float64(data[k])
                k += 1
            out[r, j] = min(max((x - mean[j]) / std[j], -most), most)


@compiled
def residuals(indptr, indices, data, sizes, totals, total, theta, clip, out):  # type: ignore[no-untyped-def]
    """Fill the dense `out` with clipped Pearson residuals; 0 where nothing is expected."""
    for r in range(len(indptr) - 1):
        k, end = indptr[r], indptr[r + 1]
        for j in range(len(totals)):
            x = 0.0
            if k < end and indices[k] == j:
                x = np.float64(data[k])
                k += 1
            mu = sizes[r] * totals[j] / total
            z = (x - mu) / np.sqrt(mu + mu * mu / theta) if mu > 0.0 else 0.0
            out[r, j] = min(max(z, -clip), clip)

"""Comparisons of samples: TMM and its kin, quantiles, medians of ratios."""

from __future__ import annotations

import numpy as np

from .compiled import compiled

_UNIT = 2.0**60


@compiled
def select(values, n, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest (from 0) of the first n values, which are reordered around it (Hoare's quickselect)."""
    left, right = 0, n - 1
    while left < right:
        pivot = values[(left + right) // 2]
        i, j = left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            break
    return values[k]


@compiled
def middle_ranks(values, scratch, n, low, high, keep):  # type: ignore[no-untyped-def]
    """Clear `keep` where the rank (from 1, ties share their mean) is not within low and high, as R's `rank`.

    No value is sorted: the two bounds are selected, and ties with them counted.
    """
    if low > high:
        keep[:n] = False
        return
    scratch[:n] = values[:n]
    bottom = select(scratch, n, low - 1)
    top = select(scratch, n, high - 1)
    below_bottom = at_bottom = below_top = at_top = 0
    for k in range(n):
        below_bottom += values[k] < bottom
        at_bottom += values[k] == bottom
        below_top += values[k] < top
        at_top += values[k] == top
    bottom_rank, top_rank = below_bottom + (at_bottom + 1) / 2, below_top + (at_top + 1) / 2
    keep_bottom = low <= bottom_rank and (bottom_rank <= high or bottom < top)
    keep_top = top_rank <= high and (low <= top_rank or bottom < top)
    for k in range(n):
        value = values[k]
        if value < bottom or value > top or (value == bottom and not keep_bottom) or (value == top and not keep_top):
            keep[k] = False


@compiled
def middle_order(values, second, scratch, n, low, high, keep):  # type: ignore[no-untyped-def]
    """Clear `keep` where the place (from 1) in `order(values, second)`, ties as they come, is out of low to high."""
    scratch[:n] = values[:n]
    bottom = select(scratch, n, low - 1)
    top = select(scratch, n, high - 1)
    for k in range(n):
        if values[k] < bottom or values[k] > top:
            keep[k] = False
    for edge in range(1 if bottom == top else 2):
        at = bottom if edge == 0 else top
        tied = np.flatnonzero(values[:n] == at)
        first = (values[:n] < at).sum() + 1
        order = np.argsort(second[tied], kind="mergesort")
        for place in range(len(tied)):
            if not low <= first + place <= high:
                keep[tied[order[place]]] = False


@compiled
def tmm(indptr, indices, data, sizes, ref, ref_size, trims, weighted, a_cutoff, out):  # type: ignore[no-untyped-def]
    """Write each row's trimmed mean of M-values against the dense row `ref`, in edgeR's own order of operations.

    `trims` holds the fractions of M-values and of A-values to cut off at each end.
    """
    n_vars = len(ref)
    ref_rate, ref_log, ref_var = np.empty(n_vars), np.empty(n_vars), np.empty(n_vars)
    for j in range(n_vars):
        if ref[j] > 0:
            ref_rate[j] = ref[j] / ref_size
            ref_log[j] = np.log2(ref_rate[j])
            ref_var[j] = (ref_size - ref[j]) / ref_size / ref[j]
    m, a, v, scratch = np.empty(n_vars), np.empty(n_vars), np.empty(n_vars), np.empty(n_vars)
    keep = np.empty(n_vars, dtype=np.bool_)
    for r in range(len(indptr) - 1):
        size = sizes[r]
        n, largest = 0, 0.0
        for k in range(indptr[r], indptr[r + 1]):
            j, x = indices[k], np.float64(data[k])
            if ref[j] > 0 and x > 0:
                rate = x / size
                log_ratio = np.log2(rate / ref_rate[j])
                mean = (np.log2(rate) + ref_log[j]) / 2
                if np.isfinite(log_ratio) and np.isfinite(mean) and mean > a_cutoff:
                    m[n], a[n], v[n] = log_ratio, mean, (size - x) / size / x + ref_var[j]
                    largest = max(largest, abs(log_ratio))
                    n += 1
        if n == 0 or largest < 1e-6:
            out[r] = 1.0
            continue
        keep[:n] = True
        low = int(np.floor(n * trims[0])) + 1
        middle_ranks(m, scratch, n, low, n + 1 - low, keep)
        low = int(np.floor(n * trims[1])) + 1
        middle_ranks(a, scratch, n, low, n + 1 - low, keep)
        top, bottom = 0.0, 0.0
        for k in range(n):
            if keep[k]:
                w = 1.0 / v[k] if weighted else 1.0
                part = m[k] / v[k] if weighted else m[k]
                if not np.isnan(part):
                    top += part
                bottom += w
        f = top / bottom
        out[r] = 2.0 ** (0.0 if np.isnan(f) else f)


@compiled
def tmm_wsp(indptr, indices, data, sizes, ref, ref_size, trims, weighted, out):  # type: ignore[no-untyped-def]
    """Write each row's TMM with singleton pairing against the dense row `ref`, in edgeR's own order of operations."""
    eps = 1e-14
    n_vars = len(ref)
    expressed = np.flatnonzero(ref > eps)
    by_size = expressed[np.argsort(-ref[expressed], kind="mergesort")]
    seen = np.zeros(n_vars, dtype=np.int64)
    obs, paired = np.empty(n_vars), np.empty(n_vars)
    m, a, shrunk, scratch = np.empty(n_vars), np.empty(n_vars), np.empty(n_vars), np.empty(n_vars)
    place = np.zeros(n_vars)
    keep = np.empty(n_vars, dtype=np.bool_)
    for r in range(len(indptr) - 1):
        size = sizes[r]
        n, n_single = 0, 0
        for k in range(indptr[r], indptr[r + 1]):
            j, x = indices[k], np.float64(data[k])
            if x > eps:
                seen[j] = r + 1
                if ref[j] > eps:
                    obs[n], paired[n] = x, ref[j]
                    n += 1
                else:
                    scratch[n_single] = x
                    n_single += 1
        eligible = min(n_single, len(expressed) - n)
        if eligible > 0:
            single = np.sort(scratch[:n_single])[::-1]
            taken = 0
            for j in by_size:
                if taken == eligible:
                    break
                if seen[j] != r + 1:
                    obs[n], paired[n] = single[taken], ref[j]
                    n += 1
                    taken += 1
        largest = 0.0
        for k in range(n):
            p, q = obs[k] / size, paired[k] / ref_size
            m[k], a[k] = np.log2(p / q), 0.5 * np.log2(p * q)
            shrunk[k] = np.log2((obs[k] + 0.5) / (size + 0.5) / ((paired[k] + 0.5) / (ref_size + 0.5)))
            largest = max(largest, abs(m[k]))
        if n == 0 or largest < 1e-6:
            out[r] = 1.0
            continue
        keep[:n] = True
        low = int(n * trims[0]) + 1
        middle_order(m, shrunk, scratch, n, low, n + 1 - low, keep)
        low = int(n * trims[1]) + 1
        middle_order(a, place, scratch, n, low, n + 1 - low, keep)
        top, bottom = 0.0, 0.0
        for k in range(n):
            if keep[k]:
                p, q = obs[k] / size, paired[k] / ref_size
                w = (1 + 1e-6) / ((1 - p) / p / size + (1 - q) / q / ref_size + 1e-6) if weighted else 1.0
                top += w * m[k]
                bottom += w
        out[r] = 2.0 ** (top / bottom)


@compiled
def row_quantiles(indptr, data, n, p, out):  # type: ignore[no-untyped-def]
    """Write each row's p-quantile over n values, of which those not stored are 0, as R's `quantile` (type 7)."""
    index = 1 + max(n - 1, 0) * p
    low, high = int(np.floor(index)), int(np.ceil(index))
    for r in range(len(indptr) - 1):
        values = data[indptr[r] : indptr[r + 1]].astype(np.float64)
        zeros = n - len(values)
        if n <= 0:  # no gene is left
            out[r] = 0.0
            continue
        below = select(values, len(values), low - 1 - zeros) if low > zeros else 0.0
        above = select(values, len(values), high - 1 - zeros) if high > zeros else 0.0
        h = index - low
        out[r] = (1 - h) * below + h * above if h > 0 and above != below else below


@compiled
def row_medians(indptr, indices, data, centre, logged, out):  # type: ignore[no-untyped-def]
    """Write each row's median of x / centre, or of log(x) - centre, over the genes whose centre is finite and x > 0."""
    for r in range(len(indptr) - 1):
        values = np.empty(indptr[r + 1] - indptr[r])
        n = 0
        for k in range(indptr[r], indptr[r + 1]):
            c, x = centre[indices[k]], np.float64(data[k])
            if np.isfinite(c) and x > 0:
                values[n] = np.log(x) - c if logged else x / c
                n += 1
        if n == 0:
            out[r] = np.nan
        elif n % 2:
            out[r] = select(values, n, n // 2)
        else:
            out[r] = (select(values, n, n // 2 - 1) + select(values, n, n // 2)) / 2


@compiled
def add_logs(indices, data, sums, counts):  # type: ignore[no-untyped-def]
    """Add log(x) to the fixed-point sums (genes, 2) and count the values above 0."""
    for k in range(len(indices)):
        if data[k] > 0:
            j = indices[k]
            x = np.log(np.float64(data[k]))
            high = np.floor(x * 0.125)
            low = np.uint64(np.int64((x - high * 8.0) * _UNIT))
            total = sums[j, 1] + low
            sums[j, 0] += np.uint64(np.int64(high)) + (np.uint64(2) if total < low else np.uint64(0))
            sums[j, 1] = total
            counts[j] += 1


@compiled
def row_sqrt_sums(indptr, data, out):  # type: ignore[no-untyped-def]
    """Sum the square roots of each row, from left to right."""
    for r in range(len(indptr) - 1):
        total = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            total += np.sqrt(np.float64(data[k]))
        out[r] = total


@compiled
def count_at_least(indptr, indices, data, factor, cutoff, counts):  # type: ignore[no-untyped-def]
    """Count for each gene the rows where x * factor[row] reaches the cutoff, which is above 0."""
    for r in range(len(indptr) - 1):
        for k in range(indptr[r], indptr[r + 1]):
            counts[indices[k]] += np.float64(data[k]) * factor[r] >= cutoff


@compiled
def log_rates(indptr, indices, data, prior, size, out):  # type: ignore[no-untyped-def]
    """Write log2((x + prior) / size * 1e6), densely; prior and size by row."""
    for r in range(len(indptr) - 1):
        out[r] = np.log2(prior[r] / size[r] * 1e6)
        for k in range(indptr[r], indptr[r + 1]):
            out[r, indices[k]] = np.log2((np.float64(data[k]) + prior[r]) / size[r] * 1e6)

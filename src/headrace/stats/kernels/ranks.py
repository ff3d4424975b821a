"""Sorted values, and sums of their ranks by group, gene by gene, with the zeros that are not stored."""

from __future__ import annotations

import numpy as np

from .compiled import compiled

_DIGIT_BITS = 11
_DIGITS = 1 << _DIGIT_BITS
_FEW = 200
"""Keys that are sorted sooner by comparing them."""

_SIGN = np.uint32(1 << 31)
_ZERO = np.uint64(1 << 31)
"""What `_sorted` makes of 0, above the group."""


@compiled
def sort_keys(keys, other, first_bit):  # type: ignore[no-untyped-def]
    """Put keys in order by their bits from one on, digit by digit from the last; `other` is as long, of any content.

    Up to eight times faster than numpy, which takes long with some processors that have AVX512.
    """
    if len(keys) < _FEW:
        keys.sort()
        return
    used, first = np.uint64(0), keys[0]
    for k in range(len(keys)):
        used |= keys[k] ^ first
    starts = np.empty(_DIGITS + 1, np.int64)
    here, there, moved = keys, other, False
    for bit in range(first_bit, 64, _DIGIT_BITS):
        shift = np.uint64(bit)
        if (used >> shift) & np.uint64(_DIGITS - 1):  # else this digit is the same in all
            starts[:] = 0
            for k in range(len(here)):
                starts[((here[k] >> shift) & np.uint64(_DIGITS - 1)) + np.uint64(1)] += 1
            for digit in range(_DIGITS):
                starts[digit + 1] += starts[digit]
            for k in range(len(here)):
                digit = (here[k] >> shift) & np.uint64(_DIGITS - 1)
                there[np.uint64(starts[digit])] = here[k]
                starts[digit] += 1
            here, there = there, here
            moved = not moved
    if moved:
        keys[:] = other


@compiled
def turn(indptr, indices, data, codes, cursor, out_values, out_codes):  # type: ignore[no-untyped-def]
    """Put the values of cells, and the cells' groups, to those of their genes: the next of gene j go to `cursor[j]`."""
    for r in range(len(indptr) - 1):
        for k in range(indptr[r], indptr[r + 1]):
            j = np.uint32(indices[k])
            to = cursor[j]
            out_values[to] = data[k]
            out_codes[to] = codes[r]
            cursor[j] = to + 1


@compiled
def append_genes(indptr, values, codes, cursor, out_values, out_codes):  # type: ignore[no-untyped-def]
    """Put the values and groups of some genes, one gene after the other, to where the next of each go."""
    for gene in range(len(cursor)):
        start, to = indptr[gene], cursor[gene]
        n = indptr[gene + 1] - start
        for k in range(n):
            out_values[to + k] = values[start + k]
            out_codes[to + k] = codes[start + k]
        cursor[gene] = to + n


@compiled
def _sorted(values, codes, keys, other):  # type: ignore[no-untyped-def]
    """Return the values in order, as whole numbers that have their order, and below them their groups."""
    for k in range(len(values)):
        bits = np.float32(values[k] + np.float32(0.0)).view(np.uint32)  # -0.0 is 0
        bits = ~bits if bits & _SIGN else bits | _SIGN
        keys[k] = (np.uint64(bits) << np.uint64(32)) | np.uint64(codes[k])
    sort_keys(keys[: len(values)], other[: len(values)], 32)
    return keys[: len(values)]


@compiled
def rank_sums(indptr, values, codes, sizes, sums, ties):  # type: ignore[no-untyped-def]
    """Rank the values of each gene among all cells, ties at their middle; add up the ranks of every group.

    `values` and their cells' groups, `codes`, are those of the genes one after the other; `sizes` are the cells of each
    group. `sums` has shape (genes, groups); `ties` (genes,) gets the sum of t**3 - t over ties of t cells.
    """
    n_cells = sizes.sum()
    keys, other = np.empty((2, np.max(np.diff(indptr))), np.uint64)
    for gene in range(len(indptr) - 1):
        start, stop = indptr[gene], indptr[gene + 1]
        x = _sorted(values[start:stop], codes[start:stop], keys, other)
        zeros = sizes.copy()
        for k in range(start, stop):
            zeros[codes[k]] -= 1
        n_zeros = n_cells - len(x)
        before, at = 0, 0
        tied = 0.0
        done = False  # with the zeros
        while at < len(x) or not done:
            if not done and (at == len(x) or x[at] >> np.uint64(32) > _ZERO):
                middle = before + 0.5 * (n_zeros + 1)
                for group in range(len(sizes)):
                    sums[gene, group] += zeros[group] * middle
                n, done = n_zeros, True
            else:
                begin = at
                while at < len(x) and x[at] >> np.uint64(32) == x[begin] >> np.uint64(32):
                    at += 1
                n = at - begin
                middle = before + 0.5 * (n + 1)
                for k in range(begin, at):
                    sums[gene, np.uint32(x[k])] += middle
            t = np.float64(n)
            tied += t * t * t - t
            before += n
        ties[gene] = tied


@compiled
def rank_sums_beside(indptr, values, codes, sizes, reference, sums, ties):  # type: ignore[no-untyped-def]
    """Do as `rank_sums`, but rank each group's cells among them and those of a group of reference alone.

    `ties` has shape (genes, groups).
    """
    n_groups = len(sizes)
    count = np.zeros(n_groups, dtype=np.int64)
    keys, other = np.empty((2, np.max(np.diff(indptr))), np.uint64)
    for gene in range(len(indptr) - 1):
        start, stop = indptr[gene], indptr[gene + 1]
        x = _sorted(values[start:stop], codes[start:stop], keys, other)
        zeros = sizes.copy()
        for k in range(start, stop):
            zeros[codes[k]] -= 1
        before = np.zeros(n_groups, dtype=np.int64)
        at = 0
        alone = 0.0
        done = False
        while at < len(x) or not done:
            begin = at
            if not done and (at == len(x) or x[at] >> np.uint64(32) > _ZERO):
                done = True
                count[:] = zeros
            else:
                while at < len(x) and x[at] >> np.uint64(32) == x[begin] >> np.uint64(32):
                    count[np.uint32(x[at])] += 1
                    at += 1
            of_reference = count[reference]
            r = np.float64(of_reference)
            alone += r * r * r - r
            # of the zeros all groups, else those that have this value
            for k in range(n_groups if at == begin else at - begin):
                group = k if at == begin else np.int64(np.uint32(x[begin + k]))
                n = count[group]
                if n > 0 and group != reference:
                    sums[gene, group] += n * (before[group] + before[reference] + 0.5 * (n + of_reference + 1))
                    t = np.float64(n + of_reference)
                    ties[gene, group] += (t * t * t - t) - (r * r * r - r)
                    before[group] += n
                    count[group] = 0
            before[reference] += of_reference
            count[reference] = 0
        for group in range(n_groups):
            ties[gene, group] += alone

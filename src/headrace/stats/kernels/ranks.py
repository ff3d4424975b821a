"""Sums of ranks by group, gene by gene, with the zeros that are not stored."""

from __future__ import annotations

import numpy as np

from .compiled import compiled


@compiled
def rank_sums(indptr, values, codes, sizes, sums, ties):  # type: ignore[no-untyped-def]
    """Rank the values of each gene among all cells, ties at their middle; add up the ranks of every group.

    `values` and their cells' groups, `codes`, are those of the genes one after the other; `sizes` are the cells of each
    group. `sums` has shape (genes, groups); `ties` (genes,) gets the sum of t**3 - t over ties of t cells.
    """
    n_cells = sizes.sum()
    for gene in range(len(indptr) - 1):
        x, groups = values[indptr[gene] : indptr[gene + 1]], codes[indptr[gene] : indptr[gene + 1]]
        order = np.argsort(x)
        zeros = sizes.copy()
        for k in range(len(groups)):
            zeros[groups[k]] -= 1
        n_zeros = n_cells - len(x)
        before, at = 0, 0
        tied = 0.0
        done = False  # with the zeros
        while at < len(x) or not done:
            if not done and (at == len(x) or x[order[at]] > 0):
                middle = before + 0.5 * (n_zeros + 1)
                for group in range(len(sizes)):
                    sums[gene, group] += zeros[group] * middle
                n, done = n_zeros, True
            else:
                start = at
                while at < len(x) and x[order[at]] == x[order[start]]:
                    at += 1
                n = at - start
                middle = before + 0.5 * (n + 1)
                for k in range(start, at):
                    sums[gene, groups[order[k]]] += middle
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
    for gene in range(len(indptr) - 1):
        x, groups = values[indptr[gene] : indptr[gene + 1]], codes[indptr[gene] : indptr[gene + 1]]
        order = np.argsort(x)
        zeros = sizes.copy()
        for k in range(len(groups)):
            zeros[groups[k]] -= 1
        before = np.zeros(n_groups, dtype=np.int64)
        at = 0
        alone = 0.0
        done = False
        while at < len(x) or not done:
            start = at
            if not done and (at == len(x) or x[order[at]] > 0):
                done = True
                count[:] = zeros
            else:
                while at < len(x) and x[order[at]] == x[order[start]]:
                    count[groups[order[at]]] += 1
                    at += 1
            of_reference = count[reference]
            r = np.float64(of_reference)
            alone += r * r * r - r
            # of the zeros all groups, else those that have this value
            for k in range(n_groups if at == start else at - start):
                group = k if at == start else np.int64(groups[order[start + k]])
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

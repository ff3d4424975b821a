"""Ranks of genes in every group of cells, and their combination."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass
class TopGenes:
    """Collects each group's `n_top_genes` best genes and the average score.

    Takes memory for the best genes only, so that hundreds of groups are no matter.

    Parameters
    ----------
    n_vars, n_top_genes
        Number of genes; how many count as best in a group.
    """

    n_vars: int
    n_top_genes: int
    groups: int = 0
    total: Floats = field(init=False)
    counted: npt.NDArray[np.int64] = field(init=False)
    tops: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.n_vars)
        self.counted = np.zeros(self.n_vars, dtype=np.int64)

    def add(self, score: Floats, known: npt.NDArray[np.bool_] | None = None) -> None:
        """Add one group's scores, shape (genes,); genes that are not `known` take no part in it."""
        if known is None:
            known = np.ones(self.n_vars, dtype=bool)
        self.groups += 1
        self.total += np.where(known, score, 0.0)
        self.counted += known
        order = np.argsort(np.where(known, -score, np.inf), kind="stable")
        self.tops.append(order[: min(self.n_top_genes, int(known.sum()))].copy())  # a view would keep all of it

    @property
    def mean(self) -> Floats:
        """Average score over the groups in which a gene is known, shape (genes,)."""
        return np.asarray(self.total / np.maximum(self.counted, 1))

    @property
    def n_groups(self) -> npt.NDArray[np.int64]:
        """In how many groups each gene is among the best, shape (genes,)."""
        return np.bincount(self._genes, minlength=self.n_vars)

    @property
    def median_rank(self) -> npt.NDArray[np.float32]:
        """Median rank over the groups in which a gene is among the best (0 is first), else NaN; shape (genes,)."""
        genes = self._genes
        ranks = np.concatenate([np.arange(len(top)) for top in self.tops]) if self.tops else genes
        order = np.lexsort((ranks, genes))
        ranks, n = ranks[order], self.n_groups
        first = np.cumsum(n) - n
        out = np.full(self.n_vars, np.nan, dtype=np.float32)
        has = n > 0
        low, high = ranks[(first + (n - 1) // 2)[has]], ranks[(first + n // 2)[has]]
        out[has] = (low + high) / 2
        return out

    @property
    def _genes(self) -> npt.NDArray[np.int64]:
        return np.concatenate(self.tops) if self.tops else np.zeros(0, dtype=np.int64)


def first(keys: list[npt.NDArray[np.floating] | npt.NDArray[np.int64]], n: int) -> npt.NDArray[np.bool_]:
    """Mark the `n` genes that come first by the keys, the first key first; NaN comes last, ties stay in order.

    Examples
    --------
    >>> import numpy as np
    >>> first([np.array([2.0, np.nan, 1.0, 1.0])], 2)
    array([False, False,  True,  True])
    """
    order = np.lexsort(tuple(np.where(np.isnan(key), np.inf, key) for key in reversed(keys)))
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[:n]] = True
    return chosen

"""The best genes of many groups."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd

from headrace.stats.ranks import TopGenes


def test_a_group_keeps_its_best_genes_only() -> None:
    """1,600 datasets of the Census took 1 GB where all ranks of each were kept."""
    n_vars, rng = 50_000, np.random.default_rng(0)
    top = TopGenes(n_vars, 20)
    tracemalloc.start()
    for _ in range(100):
        top.add(rng.random(n_vars))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000_000


def test_median_ranks_are_those_of_pandas() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((7, 30))
    top = TopGenes(30, 9)
    for score in scores:
        top.add(score)
    ranks = pd.DataFrame(-scores).rank(axis=1).sub(1)
    best = ranks.where(ranks < 9)
    np.testing.assert_array_equal(top.n_groups, best.notna().sum())
    np.testing.assert_array_equal(top.median_rank, best.median().to_numpy(np.float32))

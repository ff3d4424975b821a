"""Values gene by gene, through a temporary file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import headrace as hr
from headrace.chunk import Chunk
from headrace.stats import genemajor
from headrace.stats.genemajor import RankSums, ValuesByGene
from headrace.stats.groups import Groups


def collected(X: np.ndarray, batch: np.ndarray) -> tuple[ValuesByGene, RankSums]:
    seen = ValuesByGene(Groups(("batch",), (("p", "q"),)), X.shape[1])
    for i in range(0, len(X), 20):
        obs = pd.DataFrame({"batch": pd.Categorical(batch[i : i + 20], ["p", "q"])}, [str(k) for k in range(i, i + 20)])
        seen.update(Chunk(sparse.csr_array(X[i : i + 20]), obs))
    return seen, seen.result()


def test_ranks_are_scipys_and_damage_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genemajor, "MOST", 300)  # several runs, in a file
    rng = np.random.default_rng(0)
    X = (rng.poisson(0.7, (100, 30)) / 4).astype(np.float32)
    batch = rng.choice(["p", "q"], 100)
    seen, ranked = collected(X, batch)
    assert seen._file is not None
    ranks = stats.rankdata(X, axis=0)
    sums, _ = ranked.among_all()
    for code, name in enumerate("pq"):
        np.testing.assert_allclose(sums[code], ranks[batch == name].sum(axis=0), rtol=1e-12)
    byte = np.zeros(1, dtype=np.uint8)
    for at in (0, seen._end // 3, seen._end - 1):
        seen._file.read(byte, at)
        seen._file.write(byte ^ 1, at)
        with pytest.raises(hr.SourceError, match="damaged; check the disk"):
            ranked.among_all()
        seen._file.write(byte, at)
    np.testing.assert_array_equal(ranked.among_all()[0], sums)


@pytest.mark.parametrize("n", [160, 3000])
def test_ranks_of_few_and_of_many_values_of_either_sign(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are compared, many sorted by their digits; genes are ranked in several threads, or one is too large for that."""
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, 12)).round(2).astype(np.float32) * (rng.random((n, 12)) < rng.random(12))
    X[:, 0] = 10.0 ** rng.integers(-30, 30, n)
    batch = rng.choice(["p", "q"], n)
    chosen = [batch == name for name in "pq"]
    ranks = stats.rankdata(X, axis=0)
    for most in (2 << 20, 8 * n, n):
        monkeypatch.setattr(genemajor, "MOST", most)
        _, ranked = collected(X, batch)
        sums, ties = ranked.among_all()
        beside, beside_ties = ranked.beside(0)
        for gene in range(12):
            counts = np.unique(X[:, gene], return_counts=True)[1].astype(np.float64)
            assert ties[gene] == (counts**3 - counts).sum() == beside_ties[1, gene]
            for code in (0, 1):
                assert sums[code, gene] == ranks[chosen[code], gene].sum()
            assert beside[1, gene] == sums[1, gene]

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

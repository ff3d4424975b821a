"""Law 2. Folding a stream equals merging the folds of its parts, in any grouping and order."""

import copy
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from headrace.chunk import Chunk
from headrace.engine.schedule import flatten
from headrace.protocols import Fit
from headrace.stats.bygroup import SumsByGroup
from headrace.stats.groups import Groups

from .registry import ACCUMULATORS, STEPS, assert_same, chunks, fold, learn, source


def check(empty: Any, cells: Iterable[Chunk], seed: int = 0) -> None:
    """Cut the cells at random places, fold the parts, merge them in random order, pair by pair."""
    rng = np.random.default_rng(seed)
    (whole,) = cells
    expected = fold(empty, [whole]).result()
    n = whole.n_obs
    for n_parts in (2, 5, 17):
        cuts = [0, *np.sort(rng.choice(np.arange(1, n), min(n_parts, n) - 1, replace=False)), n]
        parts = [rows(whole, a, b) for a, b in pairwise(cuts)]
        rng.shuffle(parts)
        assert_same(
            fold(empty, parts).result(),
            copy.deepcopy(expected) if isinstance(expected, dict) else fold(empty, [whole]).result(),
        )
        folds = [fold(empty, [part]) for part in parts] + [copy.deepcopy(empty)]
        while len(folds) > 1:
            i, j = rng.choice(len(folds), 2, replace=False)
            folds[i].merge(folds[j])
            del folds[j]
        assert_same(folds[0].result(), fold(empty, [whole]).result())


def rows(chunk: Chunk, a: int, b: int) -> Chunk:
    unlogged = None if chunk.unlogged is None else chunk.unlogged[a:b]
    return Chunk(chunk.X[a:b], chunk.obs.iloc[a:b], {k: X[a:b] for k, X in chunk.layers.items()}, unlogged)


@pytest.mark.parametrize("name", ACCUMULATORS)
def test_merge(name: str) -> None:
    of = source()
    check(ACCUMULATORS[name](of.spec), chunks(of, 150))


@pytest.mark.parametrize(
    "name", [name for name, steps in STEPS.items() if any(isinstance(s, Fit) and s.passes for s in flatten(steps))]
)
def test_merge_of_what_a_step_asks_for(name: str) -> None:
    seen: list[Any] = []
    learn(STEPS[name], source(), look=lambda empty, cells: (seen.append(empty), check(empty, cells))[0])
    assert seen


def test_sums_of_squares_beyond_64_bits() -> None:
    """Huge counts: the sum of squares is exact all the same, and no count is too large to be noticed."""
    of = source()
    X = of.X.copy()
    X.data[:] = 2.0**30
    huge = type(of)(X, of.obs, of.var)
    empty = SumsByGroup(Groups(), 90, whole=True)
    check(empty, chunks(huge, 150))
    moments = fold(empty, chunks(huge, 10)).result().all()
    seen = np.bincount(X.indices, minlength=90)
    assert (moments.squares == seen * 2.0**60).all()
    assert (moments.total == seen * 2.0**30).all()
    mixed = fold(empty, [*chunks(of, 150), *chunks(huge, 150)]).result().all()
    plain = fold(empty, chunks(of, 150)).result().all()
    assert (mixed.squares == plain.squares + seen * 2.0**60).all()


def test_fixed_point_sums_are_right() -> None:
    """Against exact rational sums."""
    from fractions import Fraction

    rng = np.random.default_rng(0)
    of = source()
    X = of.X.copy()
    X.data[:] = rng.lognormal(0, 4, X.nnz).astype(np.float32)
    moments = fold(SumsByGroup(Groups(), 90, whole=False), chunks(type(of)(X, of.obs, of.var), 20)).result().all()
    for gene in range(0, 90, 5):
        values = [Fraction(float(x)) for x in X.data[X.indices == gene]]
        assert moments.total[gene] == pytest.approx(float(sum(values)), rel=1e-15, abs=1e-15)
        assert moments.squares[gene] == pytest.approx(
            float(sum(float(v) ** 2 for v in map(float, values))), rel=1e-13, abs=1e-15
        )

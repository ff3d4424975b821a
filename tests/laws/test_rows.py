"""Law 1. Transforming cells together or apart gives the same cells."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from headrace.chunk import Chunk
from headrace.engine.schedule import flatten

from .registry import STEPS, assert_same, chunks, learn, source


def together(parts: list[Chunk]) -> Chunk:
    def stack(matrices: list) -> object:
        if isinstance(matrices[0], np.ndarray):
            return np.concatenate(matrices)
        return sparse.csr_array(sparse.vstack(matrices, format="csr"))

    unlogged = None if parts[0].unlogged is None else stack([part.unlogged for part in parts])
    layers = {name: stack([part.layers[name] for part in parts]) for name in parts[0].layers}
    obsm = {name: stack([part.obsm[name] for part in parts]) for name in parts[0].obsm}
    return Chunk(stack([part.X for part in parts]), pd.concat([part.obs for part in parts]), layers, unlogged, obsm)


@pytest.mark.parametrize("name", STEPS)
def test_rows(name: str) -> None:
    of = source()
    transforms = learn(STEPS[name], of)

    def run(chunk: Chunk) -> Chunk:
        for transform in transforms:
            chunk = transform(chunk)
        return chunk

    whole = run(chunks(of, 150)[0])
    for n_obs in (1, 7, 64):
        parts = chunks(of, n_obs)
        assert len(parts) == -(-150 // n_obs)
        assert_same(together([run(part) for part in parts]), whole)


@pytest.mark.parametrize("name", STEPS)
def test_the_input_stays_as_it_is(name: str) -> None:
    of = source()
    (chunk,) = chunks(of, 150)
    for transform in learn(STEPS[name], of):
        before = [X.copy() for X in (chunk.X, *chunk.layers.values())], chunk.obs.copy()
        after = transform(chunk)
        assert_same(([*(chunk.X, *chunk.layers.values())], chunk.obs), before)
        chunk = after


@pytest.mark.parametrize("name", STEPS)
def test_the_description_is_what_comes(name: str) -> None:
    """Columns, dtypes and layers of the chunks are those that `out` has announced."""
    of = source()
    (chunk,), spec = chunks(of, 150), of.spec
    for transform in learn(STEPS[name], of):
        chunk, spec = transform(chunk), transform.out(spec)
        assert chunk.X.shape[1] == spec.n_vars
        assert chunk.X.dtype == np.float32
        assert dict(chunk.obs.dtypes) == dict(spec.obs.dtypes)
        assert set(chunk.layers) == set(spec.layers)
        assert {name: (v.shape[1], v.dtype) for name, v in chunk.obsm.items()} == {
            name: (v.shape[1], v.dtype) for name, v in spec.obsm.items()
        }
        if spec.measured is not None:
            assert spec.measured.n_vars == spec.n_vars
    assert len(flatten(STEPS[name])) >= 1

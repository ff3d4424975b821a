"""Logarithms and roots of what has none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import headrace as hr
from headrace.sources.arrays import ArraySource

X = np.array([[0.0, 3.0, -0.5], [2.0, 0.0, 1.0]], dtype=np.float32)
OBS, VAR = pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["f", "g", "h"])


def plan(values: np.ndarray, step: hr.Log1p | hr.Sqrt) -> hr.Plan:
    return hr.Plan(ArraySource(sparse.csr_array(values), OBS, VAR), [step])


@pytest.mark.parametrize("lowest", [-1.0, -2.0, -1e30])
def test_a_logarithm_that_is_none_is_refused(lowest: float) -> None:
    """scanpy warns, and goes on with NaN."""
    values = X.copy()
    values[1, 2] = lowest
    with pytest.raises(hr.CountsError, match=r"Log1p: \S+ in cell 'b', gene number 2 .*choose the layer with counts"):
        plan(values, hr.Log1p()).to_anndata()


def test_what_has_a_logarithm_is_scanpys() -> None:
    expected = AnnData(X.copy())
    sc.pp.log1p(expected)
    np.testing.assert_allclose(plan(X, hr.Log1p()).to_anndata().X.toarray(), expected.X, rtol=1e-6)


def test_a_root_of_less_than_nothing_is_refused() -> None:
    with pytest.raises(hr.CountsError, match=r"Sqrt: -0.5 in cell 'a', gene number 2 .*has no square root"):
        plan(X, hr.Sqrt()).to_anndata()

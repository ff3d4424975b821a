"""Counts as whole numbers of 32 bits: the same numbers, and nothing but counts."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.errors import CountsError, InputError, OutputError
from headrace.sources.arrays import ArraySource
from tests.laws.registry import source


@pytest.mark.parametrize("dense", [False, True])
def test_counts_are_int32_and_all_else_float32(dense: bool, tmp_path: Path) -> None:
    steps = [hr.SaveLayer("counts"), hr.NormalizeTotal(1e4), hr.Log1p()]
    for counts in ("float32", "int32"):
        hr.Plan(source(), steps).write_h5ad(tmp_path / f"{counts}.h5ad", counts=counts, dense=dense)
        assert hr.verify_h5ad(tmp_path / f"{counts}.h5ad").problems == ()
    ours, theirs = ad.read_h5ad(tmp_path / "int32.h5ad"), ad.read_h5ad(tmp_path / "float32.h5ad")
    assert (ours.layers["counts"].dtype, ours.X.dtype) == (np.int32, np.float32)
    assert theirs.layers["counts"].dtype == np.float32
    for one, other in ((ours.X, theirs.X), (ours.layers["counts"], theirs.layers["counts"])):
        assert not np.any((one != other).data if not dense else one != other)
    again = hr.Plan(hr.open_h5ad(tmp_path / "int32.h5ad", layer="counts")).to_anndata()
    assert (theirs.layers["counts"] != again.X).sum() == 0


def test_counts_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nothing that is written holds counts"):
        hr.Plan(source(), [hr.NormalizeTotal(1e4)]).write_h5ad(tmp_path / "x.h5ad", counts="int32")
    names = pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g", "h"])
    fractional = ArraySource(np.array([[1.5, 0], [2, 3]]), *names)
    with pytest.raises(OutputError, match=r"counts are not whole; put RoundCounts\(\) first"):
        hr.Plan(fractional).write_h5ad(tmp_path / "x.h5ad", counts="int32")
    large = ArraySource(np.array([[2.0**31, 0], [2, 3]]), *names)
    with pytest.raises(CountsError, match=r"X holds 2.14748e\+09, which is no whole number of 32 bits"):
        hr.Plan(large).write_h5ad(tmp_path / "x.h5ad", counts="int32")
    with pytest.raises(InputError, match="counts='int64': 'float32' or 'int32'"):
        hr.Plan(large).write_h5ad(tmp_path / "x.h5ad", counts="int64")  # type: ignore[arg-type]
    hr.Plan(fractional, [hr.RoundCounts()]).write_h5ad(tmp_path / "x.h5ad", counts="int32")
    assert ad.read_h5ad(tmp_path / "x.h5ad").X.dtype == np.int32

"""Genes by their symbols: made unique as scanpy does."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace as hr
from headrace.sources.names import unique


@given(st.lists(st.sampled_from(["a", "b", "a-1", "a-2", "a-1-1", "b-1"])))
def test_names_are_made_unique_as_anndata_does(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ad.utils.make_index_unique(pd.Index(names, dtype=object))
    assert unique(names) == expected.tolist()


def test_an_h5ad_by_symbols(tmp_path: Path) -> None:
    names = ["MATR3", "TBCE", "MATR3", "MATR3-1"]
    var = pd.DataFrame({"feature_name": names}, index=["ENSG1", "ENSG2", "ENSG3", "ENSG4"])
    expected = ad.AnnData(np.ones((3, 4), dtype=np.float32), var=var)
    expected.write_h5ad(tmp_path / "in.h5ad")
    hr.Plan(hr.open_h5ad(tmp_path / "in.h5ad", var_names="feature_name")).write_h5ad(tmp_path / "out.h5ad")
    got = ad.read_h5ad(tmp_path / "out.h5ad")
    expected.var_names = names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected.var_names_make_unique()
    assert got.var_names.tolist() == expected.var_names.tolist()
    assert got.var["feature_id"].tolist() == var.index.tolist()
    with pytest.raises(hr.InputError, match="did you mean 'feature_name'"):
        hr.open_h5ad(tmp_path / "in.h5ad", var_names="feature_nam")


def test_a_census_by_symbols_and_genes_asked_for_in_any_way(demo_census: Path) -> None:
    census = hr.open_census(demo_census)
    by_id = census.query("mus_musculus", primary_only=False).spec.var
    asked = [by_id.index[0], f"{by_id.index[1]}.7", by_id["feature_name"].iloc[2]]
    var = census.query("mus_musculus", genes=asked, primary_only=False, var_names="feature_name").spec.var
    assert var["feature_id"].tolist() == by_id.index[:3].tolist()
    assert var.index.tolist() == by_id["feature_name"].iloc[:3].tolist()


@pytest.mark.parametrize("same", [True, False])
def test_another_column_called_feature_id_is_kept(same: bool, tmp_path: Path) -> None:
    """One that holds what the index does is not written twice; any other stays, under another name."""
    var = pd.DataFrame({"symbol": ["A", "B"], "feature_id": ["E1", "E2"]}, index=["E1", "E2"] if same else ["a", "b"])
    ad.AnnData(np.ones((3, 2), np.float32), var=var).write_h5ad(tmp_path / "in.h5ad")
    hr.Plan(hr.open_h5ad(tmp_path / "in.h5ad", var_names="symbol")).write_h5ad(tmp_path / "out.h5ad")
    got = ad.read_h5ad(tmp_path / "out.h5ad").var
    assert got.index.tolist() == ["A", "B"]
    assert got["feature_id"].tolist() == var.index.tolist()
    assert got["feature_id_before"].tolist() == ["E1", "E2"] if not same else "feature_id_before" not in got


def test_names_from_the_column_feature_id_itself(tmp_path: Path) -> None:
    var = pd.DataFrame({"feature_id": ["E1", "E1"], "feature_id_before": [1, 2]}, index=["a", "b"])
    ad.AnnData(np.ones((3, 2), np.float32), var=var).write_h5ad(tmp_path / "in.h5ad")
    got = hr.Plan(hr.open_h5ad(tmp_path / "in.h5ad", var_names="feature_id")).to_anndata().var
    assert got.index.tolist() == ["E1", "E1-1"]
    assert got["feature_id"].tolist() == ["a", "b"]
    assert got["feature_id_before"].tolist() == [1, 2]
    assert got["feature_id_before_before"].tolist() == ["E1", "E1"]


def test_names_stay_beside_ids_whatever_columns_there_are(tmp_path: Path) -> None:
    var = pd.DataFrame({"id": ["E1", "E2"], "feature_name": ["x", "y"], "var_names": [1, 2]}, index=["A", "B"])
    ad.AnnData(np.ones((3, 2), np.float32), var=var).write_h5ad(tmp_path / "in.h5ad")
    got = hr.open_h5ad(tmp_path / "in.h5ad", var_index="id").spec.var
    assert got.index.tolist() == ["E1", "E2"]
    assert {name: got[name].tolist() for name in ("feature_name", "var_names", "var_names_before")} == {
        "feature_name": ["x", "y"],
        "var_names": [1, 2],
        "var_names_before": ["A", "B"],
    }

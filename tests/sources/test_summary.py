"""Summary rows of counters are no genes, in any source: totals are of genes, and their counts are in obs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tiledbsoma.io as somaio
from scipy import sparse

import headrace as hr

# of tiledbsoma's own calls of pandas
pytestmark = pytest.mark.filterwarnings("ignore:The dtype argument is deprecated:FutureWarning")

NAMES = ["g1", "__no_feature", "g2", "N_unmapped"]
COUNTS = np.array([[60, 900, 40, 5], [1, 5, 3, 0]], np.float32)
CPM = [[600_000, 400_000], [250_000, 750_000]]
"""Of the genes: what summary rows have does not matter."""


def told(opener: Any, *args: Any, **kwargs: Any) -> Any:
    """Open something; it says once that there are summary rows, and where the user called it."""
    with pytest.warns(hr.SummaryRowsWarning, match="left out: __no_feature.*, N_unmapped; their counts") as said:
        source = opener(*args, **kwargs)
    (one,) = [each for each in said if issubclass(each.category, hr.SummaryRowsWarning)]
    assert one.filename == __file__
    return source


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
@pytest.mark.parametrize(
    "asked", [{}, {"layer": "counts"}, {"raw": True}, {"var_index": "id"}, {"var_names": "symbol"}], ids=str
)
def test_of_an_h5ad(form: Any, asked: dict[str, Any], tmp_path: Path) -> None:
    var = pd.DataFrame({"id": ["E1", np.nan, "E2", np.nan], "symbol": ["A", "x", "A", "y"]}, index=NAMES)
    adata = ad.AnnData(form(COUNTS), pd.DataFrame({"sex": ["f", "m"]}, index=["a", "b"]), var)
    adata.varm["v"] = np.arange(8.0).reshape(4, 2)
    adata.layers["counts"] = form(COUNTS)
    adata.raw = adata.copy()
    adata.write_h5ad(tmp_path / "x.h5ad")
    source = told(hr.open_h5ad, tmp_path / "x.h5ad", **asked)
    plan = hr.Plan(source, [hr.SaveLayer("counts"), hr.QCMetrics(percent_top=None), hr.NormalizeTotal(1e6)])
    plan.write_h5ad(tmp_path / "out.h5ad")
    for made in (plan.to_anndata(), ad.read_h5ad(tmp_path / "out.h5ad")):
        assert made.X.toarray().tolist() == CPM
        assert made.layers["counts"].toarray().tolist() == COUNTS[:, [0, 2]].tolist()
        assert made.obs["total_counts"].tolist() == [100, 4]
        assert made.obs["__no_feature"].tolist() == [900, 5]
        assert made.obs["N_unmapped"].tolist() == [5, 0]
        assert made.varm["v"].tolist() == [[0, 1], [4, 5]]
        expected = {"id": ["E1", "E2"], "symbol": ["A", "A-1"]}
        assert list(made.var_names) == expected.get(next(iter(asked.values()), ""), ["g1", "g2"])


def test_a_column_of_obs_of_that_name_stays(tmp_path: Path) -> None:
    obs = pd.DataFrame({"__no_feature": [1, 2], "N_unmapped": ["x", "y"]}, index=["a", "b"])
    ad.AnnData(COUNTS, obs, pd.DataFrame(index=NAMES)).write_h5ad(tmp_path / "x.h5ad")
    with pytest.warns(hr.SummaryRowsWarning, match="left out: __no_feature_sum, N_unmapped_sum"):
        source = hr.open_h5ad(tmp_path / "x.h5ad")
    made = hr.Plan(source).to_anndata().obs
    assert made["__no_feature"].tolist() == [1, 2]
    assert made["__no_feature_sum"].tolist() == [900, 5]
    assert made["N_unmapped"].tolist() == ["x", "y"]


def test_a_sample_of_an_h5ad_has_them_too(tmp_path: Path) -> None:
    ad.AnnData(COUNTS, None, pd.DataFrame(index=NAMES)).write_h5ad(tmp_path / "x.h5ad")
    made = hr.Plan(told(hr.open_h5ad, tmp_path / "x.h5ad").sample(1), [hr.NormalizeTotal(1e6)]).to_anndata()
    row = int(made.obs_names[0])
    assert (made.X.toarray().tolist(), made.obs["__no_feature"].tolist()) == ([CPM[row]], [COUNTS[row, 1]])


def test_nothing_but_summary_rows_is_refused(tmp_path: Path) -> None:
    ad.AnnData(COUNTS[:, [1, 3]], None, pd.DataFrame(index=[NAMES[1], NAMES[3]])).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(hr.InputError, match="2 cells and 0 genes"):
        hr.open_h5ad(tmp_path / "x.h5ad")


@pytest.mark.parametrize("reader", ["tiles", "tiledb"])
def test_of_a_soma_experiment(reader: Any, tmp_path: Path) -> None:
    obs = pd.DataFrame({"sex": ["f", "m"]}, index=["a", "b"])
    adata = ad.AnnData(sparse.csr_matrix(COUNTS), obs, pd.DataFrame(index=NAMES))
    try:
        somaio.from_anndata(str(tmp_path / "e"), adata, "RNA")
    except TypeError as error:
        pytest.skip(f"tiledbsoma.io cannot write it: {error}")
    source = told(hr.open_soma, tmp_path / "e", reader=reader)
    plan = hr.Plan(source, [hr.QCMetrics(percent_top=None), hr.NormalizeTotal(1e6)])
    plan.write_h5ad(tmp_path / "out.h5ad")
    for made in (plan.to_anndata(), ad.read_h5ad(tmp_path / "out.h5ad")):
        assert made.X.toarray().tolist() == CPM
        assert made.obs["total_counts"].tolist() == [100, 4]
        assert made.obs["__no_feature"].tolist() == [900, 5]
        assert list(made.var_names) == ["g1", "g2"]


def test_genes_that_only_begin_so_stay(tmp_path: Path) -> None:
    names = ["N_unmappedish", "Tambiguous", "nontarget", "_g", "unmapped1", "NoFeature"]
    ad.AnnData(np.ones((2, 6), np.float32), None, pd.DataFrame(index=names)).write_h5ad(tmp_path / "x.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("error", hr.SummaryRowsWarning)
        assert list(hr.open_h5ad(tmp_path / "x.h5ad").spec.var.index) == names

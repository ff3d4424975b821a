"""Summary rows of counters are no genes, in any source: totals are of genes, and their counts are in obs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from tests.somaio import from_anndata

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
        from_anndata(str(tmp_path / "e"), adata, "RNA")
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


LARGE = 30_000_001
"""Reads without a gene: no float32 number, as X is."""


def of_reads(large: float) -> pd.DataFrame:
    """Genes x cells, of which the second has so many reads without a gene."""
    return pd.DataFrame(
        {f"c{i}": [5 + i, large if i == 1 else 7, 3, large + 2 if i == 4 else 0] for i in range(6)}, index=NAMES
    )


def tenx_folder(table: pd.DataFrame, folder: Path) -> Path:
    folder.mkdir()
    values = table.to_numpy()
    kind = "integer" if values.dtype.kind == "i" else "real"
    genes, cells = np.nonzero(values)  # not in the order of cells
    lines = [f"{g + 1} {c + 1} {values[g, c]}" for g, c in zip(genes, cells, strict=True)]
    head = f"%%MatrixMarket matrix coordinate {kind} general\n{values.shape[0]} {values.shape[1]} {len(lines)}"
    (folder / "matrix.mtx").write_text("\n".join([head, *lines, ""]))
    (folder / "barcodes.tsv").write_text("".join(f"{name}\n" for name in table))
    (folder / "features.tsv").write_text("".join(f"{name}\t{name}\tGene Expression\n" for name in table.index))
    return folder


def tenx_file(table: pd.DataFrame, path: Path) -> Path:
    X = sparse.csc_matrix(table.to_numpy())
    names = np.array([name.encode() for name in table.index])
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        for part in ("data", "indices", "indptr"):
            matrix[part] = getattr(X, part).astype(np.int64)
        matrix["shape"], matrix["barcodes"] = np.array(X.shape), np.array([name.encode() for name in table])
        features = matrix.create_group("features")
        features["id"] = features["name"] = names
        features["feature_type"] = np.array([b"Gene Expression"] * len(names))
        features["genome"] = np.array([b"GRCh38"] * len(names))
    return path


def opened(kind: str, table: pd.DataFrame, folder: Path) -> Any:
    """Open the table in one of the ways in which it may come."""
    cells = ad.AnnData(table.T.to_numpy(), pd.DataFrame(index=table.columns), pd.DataFrame(index=table.index))
    if kind == "DataFrame":
        return hr.open_counts(table, orientation="genes x samples")
    if kind == "AnnData":
        return hr.open_counts(cells)
    if kind == "table":
        table.to_csv(folder / "t.tsv", sep="\t")
        return hr.open_counts(folder / "t.tsv", orientation="genes x samples")
    if kind == "mtx":
        return hr.open_10x(tenx_folder(table, folder / "10x"))
    if kind == "10x h5":
        return hr.open_10x(tenx_file(table, folder / "x.h5"))
    of = kind.split()
    cells.X = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[of[-1]](cells.X.astype(of[1]))
    cells.write_h5ad(folder / "x.h5ad")
    return (hr.open_counts if of[0] == "samples" else hr.open_h5ad)(folder / "x.h5ad")


KINDS = ["DataFrame", "AnnData", "table", "mtx", "10x h5"] + [
    f"{what} {dtype} {form}"
    for what in ("cells", "samples")
    for dtype in ("i8", "f8", "u4")
    for form in ("csr", "csc", "dense")
]


@pytest.mark.parametrize("kind", KINDS)
def test_their_counts_are_not_rounded(kind: str, tmp_path: Path) -> None:
    """Not by X, which is float32, in however many chunks and passes it comes."""
    table = of_reads(LARGE)
    with pytest.warns(hr.SummaryRowsWarning) as said:
        source = opened(kind, table, tmp_path)
    assert not [one for one in said if issubclass(one.category, hr.RoundedCountsWarning)]
    expected = table.T.loc[:, ["__no_feature", "N_unmapped"]]
    for steps in ([], [hr.FilterGenes(min_cells=1), hr.SizeFactors()], [hr.FilterCells(min_counts=9)]):
        plan = hr.Plan(source, steps)
        plan.write_h5ad(tmp_path / "out.h5ad", overwrite=True)
        for obs in (plan.to_anndata().obs, ad.read_h5ad(tmp_path / "out.h5ad").obs):
            found = obs[list(expected)]
            assert found.to_numpy().tolist() == expected.loc[found.index].to_numpy().tolist()
            assert {dtype.name for dtype in found.dtypes} <= {"int64", "float64", "uint32"}
    parts = [one.obs for ref in source.refs(3) for one in source.read([ref])]
    assert pd.concat(parts)[list(expected)].to_numpy().tolist() == expected.to_numpy().tolist()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("DataFrame", "AnnData", "table")])
def test_a_gene_of_so_many_is_refused_or_said(kind: str, tmp_path: Path) -> None:
    table = of_reads(LARGE)
    table.loc["g2", "c3"] = LARGE + 4
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        source = opened(kind, table, tmp_path)
    assert any(issubclass(one.category, hr.SummaryRowsWarning) for one in said)
    if kind.startswith("samples"):
        (one,) = [str(one.message) for one in said if issubclass(one.category, hr.RoundedCountsWarning)]
        assert all(part in one for part in ("'c3'", "30000005", "'g2'"))
        assert hr.Plan(source).to_anndata().obs["__no_feature"].iloc[1] == LARGE
        return
    with pytest.raises(hr.CountsError, match="cell 'c3' has 30000005 for gene 'g2': X is float32"):
        hr.Plan(source).to_anndata()


@pytest.mark.parametrize("value", [2**24, 2**24 + 2, 2**40])
def test_an_mtx_takes_what_float32_holds(value: int, tmp_path: Path) -> None:
    table = of_reads(5)
    table.loc["g1", "c0"] = value
    with pytest.warns(hr.SummaryRowsWarning):
        source = hr.open_10x(tenx_folder(table, tmp_path / "10x"))
    assert hr.Plan(source).to_anndata().X.toarray()[0, 0] == np.float32(value)

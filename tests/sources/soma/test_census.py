"""Queries: what they return, and what they say when something is wrong."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import anndata
import cellxgene_census
import numpy as np
import pandas as pd
import pytest
import tiledbsoma as soma

import headrace as hr
from headrace.sources.arrays import ArraySource
from headrace.sources.compact import Sizes
from headrace.sources.soma.location import Location
from headrace.testing import SimulatedDataset, build_census
from tests.conftest import LIVER
from tests.somaio import from_anndata


@pytest.fixture(scope="module")
def census(demo_census: Path) -> hr.Census:
    return hr.open_census(demo_census)


@pytest.fixture
def _duplicates_are_meant() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hr.DuplicateCellsWarning)
        yield


def get_anndata(path: Path, organism: str, **options: object) -> object:
    with cellxgene_census.open_soma(uri=str(path)) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's own, about joinids as text
        return cellxgene_census.get_anndata(opened, organism=organism, **options)


# ------------------------------------------------------------------------------------------------------- datasets
def test_datasets(census: hr.Census, demo_census: Path) -> None:
    with cellxgene_census.open_soma(uri=str(demo_census)) as opened:
        expected = opened["census_info"]["datasets"].read().concat().to_pandas()
    table = census.datasets()
    assert table["dataset_id"].tolist() == expected["dataset_id"].tolist()
    assert table["dataset_total_cell_count"].tolist() == expected["dataset_total_cell_count"].tolist()
    assert census.datasets(title="AGEING tissues")["dataset_id"].tolist() == [LIVER]
    assert census.datasets(LIVER)["dataset_id"].tolist() == [LIVER]
    assert census.datasets(title="no such title").empty


def test_datasets_cells_per_assay(census: hr.Census, demo_census: Path) -> None:
    obs = get_anndata(demo_census, "homo_sapiens").obs
    expected = {
        str(k): part["assay"].value_counts().loc[lambda n: n > 0].to_dict()
        for k, part in obs.groupby("dataset_id", observed=True)
    }
    table = census.datasets(organism="Homo sapiens", assays=True).set_index("dataset_id")
    assert table["assays"].to_dict() == expected
    assert table["n_obs"].to_dict() == {k: sum(v.values()) for k, v in expected.items()}
    assert max(len(assays) for assays in expected.values()) > 1, "the demo has a dataset of mixed assays"


# --------------------------------------------------------------------------------------------------------- queries
@pytest.mark.usefixtures("_duplicates_are_meant")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"obs_filter": "cell_type == 'T cell'"},
        {"obs_filter": "assay == 'Smart-seq2' and nnz > 300"},
        {"obs_joinids": [2100, 5, 17, 2047, 2048, 2600]},
        {"obs_joinids": [3, 9, 27, 81, 243, 729, 2187], "obs_filter": "nnz > 10"},
    ],
    ids=["all", "type", "assay", "joinids", "scattered"],
)
def test_same_cells_and_counts_as_get_anndata(options: dict, census: hr.Census, demo_census: Path) -> None:
    theirs = {"obs_filter": "obs_value_filter", "obs_joinids": "obs_coords"}
    asked = {theirs[k]: sorted(v) if k == "obs_joinids" else v for k, v in options.items()}
    expected = get_anndata(demo_census, "homo_sapiens", **asked)
    query = census.query("homo_sapiens", genes="all", **options)
    for nnz in (6_000, 10**9):
        got = list(query.read(query.refs(nnz)))
        X = np.vstack([chunk.X.toarray() for chunk in got])
        np.testing.assert_array_equal(X, expected.X.toarray())
        assert [name for chunk in got for name in chunk.obs.index] == expected.obs["soma_joinid"].astype(str).tolist()
        for column in ("cell_type", "donor_id", "raw_sum", "is_primary_data", "observation_joinid"):
            values = [value for chunk in got for value in chunk.obs[column]]
            assert values == expected.obs[column].tolist(), column


def test_measured_genes_are_those_of_the_presence_matrix(census: hr.Census, demo_census: Path) -> None:
    ids = census.datasets(organism="homo_sapiens").query("dataset_total_cell_count > 100")["dataset_id"].tolist()[:2]
    with cellxgene_census.open_soma(uri=str(demo_census)) as opened:
        joinids = opened["census_info"]["datasets"].read().concat().to_pandas().set_index("dataset_id")["soma_joinid"]
        presence = cellxgene_census.get_presence_matrix(opened, organism="homo_sapiens").toarray().astype(bool)
        var = opened["census_data"]["homo_sapiens"].ms["RNA"].var.read().concat().to_pandas()
    rows = presence[[int(joinids[one]) for one in ids]]
    for rule, mask in {"measured": rows.all(axis=0), "any": rows.any(axis=0), "all": np.ones(len(var), bool)}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            query = census.query("homo_sapiens", dataset_id=ids, genes=rule)
        assert query.spec.var.index.tolist() == var["feature_id"][mask].tolist(), rule
    cells = query.value_counts("dataset_id")
    expected = sum(rows[i] * cells[one] for i, one in enumerate(ids))
    np.testing.assert_array_equal(query.spec.var["n_measured_cells"], expected)


def test_genes_by_id_and_by_name(census: hr.Census) -> None:
    names = ["Alb", "ENSMUSG00000064351", "mt-Nd1"]
    var = census.query("mus_musculus", dataset_id=LIVER, genes=names).spec.var
    assert set(var["feature_name"]) == {"Alb", "mt-Co1", "mt-Nd1"}


def test_primary_only(census: hr.Census) -> None:
    with pytest.warns(hr.DuplicateCellsWarning, match="are duplicates of cells in other datasets"):
        unset = census.query("homo_sapiens")
    kept = census.query("homo_sapiens", primary_only=False)  # no warning
    primary = census.query("homo_sapiens", primary_only=True)
    assert unset.spec.n_obs == kept.spec.n_obs
    assert kept.spec.n_obs - primary.spec.n_obs == kept.value_counts("is_primary_data")["False"]


def test_few_measured_genes_are_said(tmp_path: Path) -> None:
    ids = [f"ENSG{i:011d}" for i in range(40)]

    genes = pd.DataFrame(
        {"feature_name": ids, "feature_length": 1000, "feature_type": "protein_coding"},
        index=pd.Index(ids, name="feature_id"),
    )
    parts = [
        SimulatedDataset(30, feature_ids=part, dataset_id=name)
        for part, name in ((ids[:25], "a"), (ids[20:], "b"), (ids[:20], "c"))
    ]
    census = hr.open_census(build_census(tmp_path / "c", {"homo_sapiens": parts}, genes={"homo_sapiens": genes}))
    with pytest.warns(hr.FewGenesWarning, match="only 5 genes were measured in all 2 datasets; genes='any'"):
        census.query("homo_sapiens", dataset_id=["a", "b"])
    with pytest.raises(hr.InputError, match="no gene was measured in all 2 datasets"):
        census.query("homo_sapiens", dataset_id=["b", "c"])


def test_a_query_pickles_small_and_reads_the_same(census: hr.Census) -> None:
    query = census.query("mus_musculus", dataset_id=LIVER)
    assert len(pickle.dumps(query)) < 2000
    again = pickle.loads(pickle.dumps(query))
    a, b = next(query.read(query.refs(50_000)[:1])), next(again.read(again.refs(50_000)[:1]))
    assert (a.X != b.X).nnz == 0
    assert a.obs.equals(b.obs)


# ------------------------------------------------------------------------------------------- a Census not so usual
@pytest.mark.parametrize(
    "options", [{"n_fragments": 2}, {"n_fragments": 3, "shuffle_cells": True}], ids=["two", "three"]
)
def test_several_fragments(options: dict, tmp_path: Path) -> None:
    """Cells then do not come in order; every value must still land in its row."""
    datasets = {"homo_sapiens": [SimulatedDataset(2500, n_vars=400), SimulatedDataset(1900, n_vars=300)]}
    plain = build_census(tmp_path / "plain", datasets, layers=("raw",))
    other = build_census(tmp_path / "other", datasets, layers=("raw",), **options)
    expected = get_anndata(other, "homo_sapiens").X.toarray()
    if "shuffle_cells" not in options:
        np.testing.assert_array_equal(expected, get_anndata(plain, "homo_sapiens").X.toarray())
    query = hr.open_census(other).query("homo_sapiens", genes="all")
    for nnz in (30_000, 10**9):
        got = np.vstack([chunk.X.toarray() for chunk in query.read(query.refs(nnz))])
        np.testing.assert_array_equal(got, expected)


def test_soma_without_nnz_in_obs(tmp_path: Path) -> None:
    """A SOMA experiment that is no Census: made by tiledbsoma.io, its obs knows no nnz."""
    import anndata as ad
    from scipy import sparse

    rng = np.random.default_rng(0)
    X = sparse.random(700, 90, 0.1, "csr", np.float32, rng, lambda n: rng.integers(1, 9, n).astype(np.float32))
    adata = ad.AnnData(
        X, pd.DataFrame(index=[f"c{i}" for i in range(700)]), pd.DataFrame(index=[f"g{i}" for i in range(90)])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from_anndata(str(tmp_path / "e"), adata, measurement_name="RNA", X_layer_name="raw")
    source = hr.open_soma(tmp_path / "e")
    assert source.spec.nnz is None
    for nnz in (100, 500, 10**9):
        got = np.vstack([chunk.X.toarray() for chunk in source.read(source.refs(nnz))])
        np.testing.assert_array_equal(got, X.toarray())
    assert source.spec.var.index.tolist() == [f"g{i}" for i in range(90)]
    out = hr.Plan(source, [hr.FilterGenes(min_cells=60), hr.NormalizeTotal(100)]).to_anndata()
    assert 0 < out.n_vars < 90


def test_tile_orders_are_not_merged_in_a_thread_that_outlives_its_query() -> None:
    """TileDB pull request 5723: with the merge on, some of a thousand small reads of obs break the heap."""
    setting = "sm.query.sparse_global_order.preprocess_tile_merge"
    assert str(Location("e").context().tiledb_config[setting]) == "0"
    assert str(Location("e", ((setting, "100"),)).context().tiledb_config[setting]) == "100"


# ---------------------------------------------------------------------------------------------------- what is wrong
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(organism="homo_sapien"), r"no organism 'homo_sapien'; did you mean 'homo_sapiens'"),
        (
            dict(dataset_id="4546e757-34d0-4d17-be06-538318925fcx"),
            r"no dataset .*; did you mean '4546e757-34d0-4d17-be06-538318925fcd'",
        ),
        (dict(dataset_id=[]), r"dataset_id is an empty list"),
        (dict(obs_filter="cell_typ == 'B cell'"), r"names 'cell_typ', which .*/obs has not; did you mean 'cell_type'"),
        (dict(obs_filter="cell_type = 'B cell'"), r"cannot be used"),
        (dict(obs_filter="nnz == 'many'"), r"cannot be used"),
        (dict(obs_filter="cell_type == 'Bcell"), r"cannot be used"),
        (dict(obs_filter="cell_type == 'no such cell'"), r"no cell of .* matches: .*no such cell"),
        (dict(obs_filter="  "), r"the filter is empty"),
        (dict(obs_joinids=[1, 2, 2]), r"has 2 more than once"),
        (dict(obs_joinids=[10**6]), r"1 of 1 obs_joinids are not in .*, e.g. 1000000"),
        (dict(obs_joinids=[]), r"obs_joinids is empty"),
        (dict(genes=["Alb", "Albx"]), r"1 of 2 genes are unknown, e.g. 'Albx'; did you mean 'Alb'"),
        (dict(genes="mesured"), r"genes='mesured': 'measured', 'any', 'all'"),
        (dict(genes=["Alb", "ENSMUSG00000029368"]), r"asked for more than once"),
        (dict(layer="rwa"), r"has no layer 'rwa'; did you mean 'raw'"),
    ],
)
@pytest.mark.usefixtures("_duplicates_are_meant")
def test_what_is_wrong_is_named(asked: dict, said: str, census: hr.Census) -> None:
    with pytest.raises(hr.InputError, match=said):
        census.query(**{"organism": "mus_musculus", **asked})


def test_an_ambiguous_gene_name_lists_its_ids(census: hr.Census) -> None:
    var = census.query("homo_sapiens", genes="all", primary_only=False).spec.var
    twice = var["feature_name"][var["feature_name"].duplicated(keep=False)]
    name = twice.iloc[0]
    ids = var.index[var["feature_name"] == name]
    with pytest.raises(hr.InputError, match=f"{name!r} stands for {len(ids)} genes: {', '.join(ids)}; give the id"):
        census.query("homo_sapiens", genes=[name], primary_only=False)


def test_a_wrong_place_is_named(tmp_path: Path, demo_census: Path) -> None:
    with pytest.raises(hr.InputError, match="there is nothing at|it is no path, no URI, and no release"):
        hr.open_census(tmp_path / "nowhere")
    with pytest.raises(hr.InputError, match="no SOMA object at"):
        hr.open_census(tmp_path)
    with pytest.raises(hr.InputError, match=r"is a SOMAExperiment, not a Census.*hr\.open_soma"):
        hr.open_census(demo_census / "census_data" / "mus_musculus")
    with pytest.raises(hr.InputError, match=r"is a SOMACollection, not a SOMAExperiment.*hr\.open_census"):
        hr.open_soma(demo_census)
    with pytest.raises(hr.InputError, match="no measurement 'ATAC'; known: RNA"):
        hr.open_soma(demo_census / "census_data" / "mus_musculus", measurement="ATAC")


def test_obs_that_contradicts_x(demo_census: Path, tmp_path: Path) -> None:
    """obs['nnz'] is what rooms in memory are made by; a wrong one is an error, not a wrong result."""
    root = build_census(tmp_path / "c", {"homo_sapiens": [SimulatedDataset(300, n_vars=200)]}, layers=("raw",))
    uri = str(root / "census_data" / "homo_sapiens")
    with soma.open(uri) as experiment:
        table = experiment.obs.read().concat()
    nnz = table["nnz"].to_numpy().copy()
    nnz[100] -= 1
    at = table.schema.get_field_index("nnz")
    import pyarrow as pa

    changed = table.set_column(at, "nnz", pa.array(nnz)).slice(100, 1)
    with soma.open(f"{uri}/obs", "w") as obs:
        obs.write(changed)
    with pytest.raises(hr.SourceError, match="several cells with the soma_joinid 100"):  # obs of a Census holds both
        hr.open_census(root).query("homo_sapiens", genes="all")
    found = hr.open_census(demo_census).query("mus_musculus")
    cells = replace(found.cells, nnz=Sizes(np.where(np.arange(found.spec.n_obs) == 100, 1, found.cells.nnz)))
    found.__dict__["cells"] = cells
    with pytest.raises(hr.SourceError, match="the source contradicts itself"):
        hr.Plan(found).to_anndata()
    (tmp_path / "out").mkdir()
    with pytest.raises(hr.SourceError, match="the source contradicts itself"):
        hr.Plan(found, [hr.FilterGenes(min_cells=5), hr.Log1p()]).write_h5ad(tmp_path / "out" / "x.h5ad")
    assert list((tmp_path / "out").iterdir()) == [], "no spool either: nothing would go on from it"


# -------------------------------------------------------------------------------------------------------- not counts
def test_a_layer_that_holds_no_counts_is_named(demo_census: Path) -> None:
    """The Census's own normalized layer, offered as if it were counts."""
    source = hr.open_soma(demo_census / "census_data" / "mus_musculus", layer="normalized")
    said = r"layer 'normalized' of the source holds no counts: 0\.\d+ in cell '0', gene 'ENSMUSG\d+'.* needed by NormalizeTotal"
    with pytest.raises(hr.CountsError, match=said):
        hr.Plan(source, [hr.NormalizeTotal(1e4), hr.Log1p()]).to_anndata()
    hr.Plan(source, [hr.Log1p()]).to_anndata()  # needs no counts


@pytest.mark.parametrize(
    ("value", "said"), [(-1.0, "-1 in cell 'c3', gene 'g2'"), (2.5, "2.5 in cell.*put RoundCounts\\(\\) before them")]
)
def test_the_first_value_that_is_no_count_is_named(value: float, said: str) -> None:
    X = np.ones((5, 4), dtype=np.float32)
    X[3, 2] = value
    source = ArraySource(
        X, pd.DataFrame(index=[f"c{i}" for i in range(5)]), pd.DataFrame(index=[f"g{i}" for i in range(4)])
    )
    with pytest.raises(hr.CountsError, match=said):
        hr.Plan(source, [hr.NormalizeTotal(1e4)]).to_anndata()


def test_datasets_of_two_organisms_are_not_counted_by_halves(demo_census: Path) -> None:
    census = hr.open_census(demo_census)
    mouse, human = (census.datasets(organism=name)["dataset_id"].iloc[0] for name in ("mus_musculus", "homo_sapiens"))
    n_obs = census.query("mus_musculus", dataset_id=mouse, primary_only=False).spec.n_obs
    assert census.count("mus_musculus", dataset_id=mouse)["n_obs"].tolist() == [n_obs]
    assert census.count("mus_musculus", dataset_id=mouse, obs_filter="sex == 'female'")["n_obs"].sum() < n_obs
    for ids in ([mouse, human], [human], human):
        with pytest.raises(hr.InputError, match=f"no cell of mus_musculus: '{human}' of homo_sapiens"):
            census.count("mus_musculus", "assay", dataset_id=ids)


def test_a_filter_of_datasets_of_two_organisms_is_refused_too(demo_census: Path) -> None:
    """By the words of dataset_id=, wherever in the filter they stand; ids that are excluded are not asked for."""
    census = hr.open_census(demo_census)
    human = census.datasets(organism="homo_sapiens")["dataset_id"].tolist()
    text = f"dataset_id: of the 2 datasets, some have no cell of mus_musculus: {human[0]!r} of homo_sapiens"
    for asked in (
        f"dataset_id in {[LIVER, human[0]]!r}",
        f"dataset_id == {LIVER!r} or {human[0]!r} == dataset_id",
        f"sex == 'female' and (dataset_id == {LIVER!r} or (dataset_id == {human[0]!r} and tissue == 'lung'))",
        f"not (dataset_id != {LIVER!r} and dataset_id not in [{human[0]!r}])",
    ):
        for ask in (census.query, census.count):
            with pytest.raises(hr.InputError) as said:
                ask("mus_musculus", obs_filter=asked)
            assert str(said.value).startswith(text), asked
    with pytest.raises(hr.InputError, match=f"of the 2 datasets.*'{human[1]}' of homo_sapiens"):
        census.query(
            "mus_musculus", dataset_id=LIVER, obs_filter=f"dataset_id in {[LIVER, human[1]]!r} or sex == 'male'"
        )
    with pytest.raises(hr.InputError, match=r"no cell .* are of homo_sapiens"):
        census.query("mus_musculus", obs_filter=f"dataset_id == {human[0]!r}")
    with pytest.raises(hr.InputError, match=f"it has no cell of mus_musculus: '{human[0]}'"):
        census.count("mus_musculus", obs_filter=f"dataset_id == {human[0]!r}")
    all_cells = census.query("mus_musculus", primary_only=False).spec.n_obs
    for passed in (f"dataset_id not in {human!r}", f"dataset_id != {human[0]!r}", f"not dataset_id in {human!r}"):
        assert census.query("mus_musculus", obs_filter=passed, primary_only=False).spec.n_obs == all_cells
        assert census.count("mus_musculus", obs_filter=passed)["n_obs"].tolist() == [all_cells]
    none = f'dataset_id in ["{LIVER}", "it\'s none", "x"]'
    assert census.query("mus_musculus", obs_filter=none, primary_only=False).spec.n_obs == 700
    empty = (
        f"dataset_id in {[LIVER, census.datasets(organism='mus_musculus')['dataset_id'].iloc[1]]!r} and sex == 'male'"
    )
    assert census.query("mus_musculus", obs_filter=empty).spec.n_obs > 0


def test_datasets_of_two_organisms_are_no_query(demo_census: Path) -> None:
    census = hr.open_census(demo_census)
    human = census.datasets(organism="homo_sapiens")["dataset_id"].tolist()
    with soma.open(f"{demo_census}/census_data/homo_sapiens/obs") as obs:
        cells = obs.read(column_names=["dataset_id"]).concat().to_pandas()["dataset_id"]
    assert set(cells) == set(human)
    with pytest.raises(hr.InputError) as said:
        census.query("mus_musculus", dataset_id=[LIVER, *human[:2]])
    message = str(said.value)
    assert "some have no cell of mus_musculus" in message
    assert f"{human[0]!r}, {human[1]!r} of homo_sapiens" in message
    assert LIVER not in message
    with pytest.raises(hr.InputError, match=f"'{LIVER}' of mus_musculus"):
        census.query("homo_sapiens", dataset_id=[human[0], LIVER])


def test_a_filter_that_leaves_no_cell_of_a_dataset_is_no_error(demo_census: Path) -> None:
    census = hr.open_census(demo_census)
    table = census.datasets(organism="homo_sapiens", assays=True)
    with_it = {row.dataset_id: "Smart-seq2" in row.assays for row in table.itertuples()}
    ids = [next(one for one, has in with_it.items() if has == wanted) for wanted in (True, False)]
    found = census.query("homo_sapiens", dataset_id=ids, obs_filter="assay == 'Smart-seq2'", genes="any")
    assert list(found.value_counts("dataset_id")) == ids[:1]


def test_uns_says_what_the_schema_of_cellxgene_asks_for(demo_census: Path, tmp_path: Path) -> None:
    with soma.open(str(demo_census)) as opened:
        table = opened["census_info"]["organisms"].read().concat().to_pandas().set_index("organism")
        titles = opened["census_info"]["datasets"].read().concat().to_pandas().set_index("dataset_id")["dataset_title"]
    term = table.loc["mus_musculus", "organism_ontology_term_id"]
    assert term == "NCBITaxon:10090"
    census = hr.open_census(demo_census)
    plan = hr.Plan(census.query("mus_musculus", dataset_id=LIVER))
    plan.write_h5ad(tmp_path / "out.h5ad")
    for uns in (plan.to_anndata().uns, anndata.read_h5ad(tmp_path / "out.h5ad").uns):
        assert uns["organism_ontology_term_id"] == term
        assert uns["title"] == titles[LIVER]
    several = census.query("homo_sapiens", primary_only=True, genes="any").spec.uns
    assert several == {"organism_ontology_term_id": "NCBITaxon:9606"}

"""What a newcomer gets wrong, and whether the answer says what to do; and what things say they are."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import cellxgene_census
import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.chunk import Holds
from headrace.sinks.discard import Discard
from headrace.sources.arrays import ArraySource
from headrace.sources.soma import query as query_module
from headrace.sources.soma.census import Census
from headrace.sources.soma.location import Location
from tests.conftest import LIVER


@pytest.fixture(scope="module")
def census(demo_census: Path) -> hr.Census:
    return hr.open_census(demo_census)


@pytest.fixture
def small() -> ArraySource:
    """Six cells with 1 to 6 of eight genes."""
    obs = pd.DataFrame({"depth": np.arange(6.0), "donor": list("aabbcc")}, index=[f"c{i}" for i in range(6)])
    return ArraySource(np.tri(6, 8, dtype=np.float32), obs, pd.DataFrame(index=[f"g{i}" for i in range(8)]))


# ------------------------------------------------------------------------------------------------ names and ids
@pytest.mark.parametrize(
    ("organism", "meant"),
    [
        ("mouse", "mus_musculus"),
        ("Mouse", "mus_musculus"),
        ("human", "homo_sapiens"),
        ("M. musculus", "mus_musculus"),
        ("Homo sapien", "homo_sapiens"),
    ],
)
def test_the_organism_that_was_meant_is_named(organism: str, meant: str, census: hr.Census) -> None:
    with pytest.raises(hr.InputError, match=f"no organism '{organism}'; did you mean '{meant}'"):
        census.query(organism, dataset_id=LIVER)


def test_an_organism_is_known_by_its_name_as_people_write_it(census: hr.Census) -> None:
    for name in ("Mus musculus", "mus musculus", "mus_musculus"):
        assert census.query(name, dataset_id=LIVER).organism == "mus_musculus"


@pytest.mark.parametrize("ask", ["exactly", "part", "other case", "version"])
def test_a_title_for_an_id(ask: str, census: hr.Census) -> None:
    row = census.datasets(LIVER).iloc[0]
    title = row["dataset_title"]
    given = {
        "exactly": title,
        "part": "ageing tissues in the mouse",
        "other case": title.upper(),
        "version": row["dataset_version_id"],
    }
    column = "dataset_version_id" if ask == "version" else "dataset_title"
    with pytest.raises(hr.InputError, match=f"no dataset .*; it is in the {column} of dataset_id '{LIVER}'"):
        census.query("mus_musculus", dataset_id=given[ask])


def test_a_collection_for_an_id_names_its_datasets(census: hr.Census) -> None:
    table = census.datasets()
    name = table.loc[table["dataset_id"] == LIVER, "collection_name"].iloc[0]
    ids = table.loc[table["collection_name"] == name, "dataset_id"].tolist()
    with pytest.raises(hr.InputError, match="it is in the collection_name of dataset_id") as error:
        census.query("mus_musculus", dataset_id=[LIVER, name])
    assert all(one in str(error.value) for one in ids)
    with pytest.raises(hr.InputError, match=r"in the dataset_title of .*, and 3 more$"):
        census.query("homo_sapiens", dataset_id="SIMULATED")


def test_a_dataset_of_another_organism(census: hr.Census) -> None:
    with pytest.raises(hr.InputError, match="cells with that dataset_id are of mus_musculus$"):
        census.query("homo_sapiens", dataset_id=LIVER)


# -------------------------------------------------------------------------------------------- values of a filter
@pytest.mark.parametrize(
    ("obs_filter", "said"),
    [
        ("cell_type == 'Kupfer cell'", "cell_type 'Kupfer cell' does not occur there, did you mean 'Kupffer cell'"),
        ('tissue_general == "Liver"', "tissue_general 'Liver' does not occur there, did you mean 'liver'"),
        ("cell_type in ['B cell', 'Hepatocyt'] and nnz < 0", "'Hepatocyt' .*did you mean 'hepatocyte'"),
        ("cell_type == 'T cell' and tissue_general == 'Liver'", r"\); tissue_general 'Liver' .* 'liver'\?$"),
        ("tissue_general == 'lung'", "tissue_general 'lung' does not occur there, known: liver$"),
        ("cell_type == 'T cell' and nnz < 0", r"matches: .*nnz < 0\)$"),
        ("cell_type not in ['T cell'] and nnz < 0", r"matches: .*nnz < 0\)$"),
    ],
    ids=["typo", "case", "list", "one of two", "elsewhere", "number", "not in"],
)
def test_a_value_that_does_not_occur(obs_filter: str, said: str, census: hr.Census) -> None:
    with pytest.raises(hr.InputError, match=said):
        census.query("mus_musculus", dataset_id=LIVER, obs_filter=obs_filter)


def test_values_are_those_of_the_cells_that_were_asked_for(census: hr.Census) -> None:
    with pytest.raises(hr.InputError, match="tissue_general 'Lunge' does not occur there, did you mean 'lung'"):
        census.query("mus_musculus", obs_filter="tissue_general == 'Lunge'")
    with pytest.raises(hr.InputError, match="tissue_general 'Lung' does not occur there, known: liver"):
        census.query("mus_musculus", obs_filter="tissue_general == 'Lung'", obs_joinids=range(600))


def test_values_are_looked_up_only_if_nothing_is_found(census: hr.Census, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise AssertionError("looked up")

    monkeypatch.setattr(query_module, "absent_values", fail)
    assert census.query("mus_musculus", dataset_id=LIVER, obs_filter="cell_type == 'Kupffer cell'").spec.n_obs
    with pytest.raises(AssertionError, match="looked up"):
        census.query("mus_musculus", dataset_id=LIVER, obs_filter="cell_type == 'Kupfer cell'")


def test_a_value_that_does_not_occur_in_any_soma_experiment(demo_census: Path) -> None:
    with pytest.raises(
        hr.InputError, match="cell_type 'Kupfer cell' does not occur there, did you mean 'Kupffer cell'"
    ):
        hr.open_soma(demo_census / "census_data/mus_musculus", obs_filter="cell_type == 'Kupfer cell'").spec  # noqa: B018


# ------------------------------------------------------------------------------------------------- no cell is left
@pytest.mark.parametrize(
    "after",
    [
        [],
        [hr.FilterGenes(min_cells=1)],
        [hr.FilterGenes(min_counts=1)],
        [hr.NormalizeTotal()],
        [hr.SizeFactors()],
        [hr.PFlogPF()],
        [hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(2), hr.SelectGenes("highly_variable")],
        [hr.HighlyVariableGenes(2, flavor="seurat_v3")],
        [hr.Scale()],
        [hr.QCMetrics(percent_top=()), hr.FilterGenes(min_cells=1)],
        [hr.Pseudobulk("donor", min_cells=1)],
        [hr.FilterByExpr()],
        [hr.NormFactors()],
        [hr.LogCPM()],
    ],
    ids=lambda steps: "+".join(type(step).__name__ for step in steps) or "nothing",
)
def test_the_filter_is_blamed_not_the_step_after_it(after: list, small: ArraySource) -> None:
    said = r"^no .* of 6 passed the filters: FilterCells\(min_genes=7\); loosen them$"
    with pytest.raises(hr.InputError, match=said):
        hr.Plan(small, [hr.FilterCells(min_genes=7), *after]).to_anndata()


def test_all_filters_are_named(small: ArraySource) -> None:
    steps = [hr.FilterCells(max={"depth": 3}), hr.FilterOutliers("depth", nmads=0.1), hr.FilterCells(min_counts=4)]
    said = r"FilterCells\(max={'depth': 3}\) and FilterOutliers\(column='depth', nmads=0.1\) and FilterCells\(min_c"
    with pytest.raises(hr.InputError, match=said):
        hr.Plan(small, steps).to_anndata()


def test_genes_are_blamed_where_cells_are_left(small: ArraySource) -> None:
    with pytest.raises(hr.InputError, match=r"^FilterGenes\(min_cells=5\): none of the 8 genes is within the bounds"):
        hr.Plan(small, [hr.FilterCells(min_genes=5), hr.FilterGenes(min_cells=5)]).to_anndata()


# ------------------------------------------------------------------------------------------------- scaled, logged
@pytest.mark.parametrize("step", [hr.NormalizeTotal(1e4), hr.NormalizeTotal(), hr.SizeFactors()])
def test_totals_of_logged_values_are_refused(step: object, small: ArraySource) -> None:
    said = f"{type(step).__name__}: X is logged here already"
    with pytest.raises(hr.PlanError, match=said):
        hr.Plan(small, [hr.NormalizeTotal(1e4), hr.Log1p(), step])
    with pytest.raises(hr.PlanError, match=said):
        hr.Plan(ArraySource(small.X, small.obs, small.var, Holds.LOGGED), [step])


def test_logged_twice_is_refused(small: ArraySource) -> None:
    with pytest.raises(hr.PlanError, match="Log1p: X is logged here already; remove one of the two steps"):
        hr.Plan(small, [hr.Log1p(), hr.FilterGenes(min_cells=1), hr.Log1p()])


def test_scaled_twice_is_said(small: ArraySource) -> None:
    said = r"NormalizeTotal\(target_sum=100\) scales cells that NormalizeTotal\(target_sum=10\) has scaled already"
    with pytest.warns(hr.ScaledTwiceWarning, match=said) as warned:
        plan = hr.Plan(small, [hr.NormalizeTotal(10), hr.SaveLayer("ten"), hr.NormalizeTotal(100)])
    assert warned[0].filename == __file__
    np.testing.assert_allclose(plan.to_anndata().X.sum(axis=1), 100, rtol=1e-6)  # as in scanpy


@pytest.mark.parametrize(
    "steps",
    [
        [hr.PFlogPF()],
        [hr.NormalizeTotal(10), hr.FilterGenes(min_cells=1), hr.NormalizeTotal(10)],  # scanpy's recipe_zheng17
        [
            hr.SaveLayer("counts"),
            hr.NormalizeTotal(10),
            hr.SaveLayer("ten"),
            hr.UseLayer("counts"),
            hr.NormalizeTotal(5),
        ],
        [hr.NormalizeTotal(10), hr.Sqrt(), hr.NormalizeTotal(10)],
    ],
    ids=["PFlogPF", "genes", "layer", "root"],
)
def test_scaled_twice_for_a_reason(steps: list, small: ArraySource) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hr.Plan(small, steps)


# ------------------------------------------------------------------------------------------------------ provenance
@pytest.mark.parametrize("filters", [[], [hr.FilterCells(min_genes=700)], [hr.FilterCells(max={"nnz": 700})]])
def test_the_cells_that_were_corrected_are_those_that_were_kept(filters: list, census: hr.Census) -> None:
    query = census.query("homo_sapiens", primary_only=True)
    adata = hr.Plan(query, [hr.NormalizeLength(), *filters]).to_anndata()
    kept = adata.obs["assay_ontology_term_id"][adata.obs["length_normalized"]].value_counts()
    made = json.loads(adata.uns["headrace"]["length_normalized_assays"])
    assert made == {assay: n for assay, n in kept.items() if n}
    read = sum(query.value_counts("assay_ontology_term_id")[assay] for assay in made)
    assert (0 < sum(made.values()) < read) if filters else (sum(made.values()) == read)


def test_the_genes_that_a_query_drops_are_counted(census: hr.Census, demo_census: Path) -> None:
    with cellxgene_census.open_soma(uri=str(demo_census)) as opened:
        joinids = opened["census_info"]["datasets"].read().concat().to_pandas().set_index("dataset_id")["soma_joinid"]
        presence = cellxgene_census.get_presence_matrix(opened, organism="homo_sapiens").toarray().astype(bool)
    ids = census.datasets(organism="homo_sapiens")["dataset_id"].tolist()[:2]
    rows = presence[[int(joinids[one]) for one in ids]]
    nowhere, partly = int((~rows.any(axis=0)).sum()), int((rows.any(axis=0) & ~rows.all(axis=0)).sum())
    assert nowhere
    assert partly
    for rule, expected in {
        "measured": {"n_genes_not_measured": nowhere, "n_genes_partly_measured": partly},
        "any": {"n_genes_not_measured": nowhere},
        "all": {},
    }.items():
        query = census.query("homo_sapiens", dataset_id=ids, genes=rule, primary_only=False)
        assert query.dropped == expected
        assert query.provenance()["query"].items() >= expected.items()
        assert presence.shape[1] - sum(expected.values()) == query.spec.n_vars


# -------------------------------------------------------------------------------------------------- datasets, reprs
def test_datasets_by_assay(census: hr.Census, demo_census: Path) -> None:
    with cellxgene_census.open_soma(uri=str(demo_census)) as opened:
        parts = [opened["census_data"][name].obs.read().concat().to_pandas() for name in census.organisms]
    obs = pd.concat([part[["dataset_id", "assay"]].astype(str) for part in parts])
    expected = obs[obs["assay"] == "Smart-seq2"]["dataset_id"].value_counts().to_dict()
    table = census.datasets(assay="Smart-seq2")
    assert dict(zip(table["dataset_id"], table["n_obs"], strict=True)) == expected
    assert census.datasets(assay="Smart-seq2", organism="mus_musculus")["dataset_id"].tolist() == [LIVER]
    both = census.datasets(assay="Smart-seq2", assays=True)["assays"]
    assert max(len(assays) for assays in both) > 1, "all assays of a dataset are told, not only the one asked for"
    with pytest.raises(hr.InputError, match="no cell here has assay 'SmartSeq2'; did you mean 'Smart-seq2'"):
        census.datasets(assay="SmartSeq2")


def test_what_a_plan_and_a_stream_say_they_are(small: ArraySource) -> None:
    steps = [hr.SaveLayer("counts"), hr.FilterGenes(min_cells=2), hr.NormalizeTotal(1e4), hr.Log1p()]
    plan = hr.Plan(small, steps)
    assert repr(plan).splitlines() == [
        "Plan",
        "  source  ArraySource(6 cells x 8 genes, 21 non-zeros, unknown)",
        "  step    SaveLayer(name='counts')",
        "  step    FilterGenes(min_cells=2)",
        "  step    NormalizeTotal(target_sum=10000.0)",
        "  step    Log1p()",
    ]
    written = plan.write(Discard())
    assert written.n_vars == 5
    assert repr(written) == "StreamSpec(6 cells x 5 genes, 21 non-zeros, logged, layers counts)"


def test_a_repr_opens_and_reads_nothing(demo_census: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = hr.open_census(demo_census)
    query = opened.query("Mus musculus", dataset_id=LIVER, obs_filter="nnz > 300", obs_joinids=range(600))
    plan = hr.Plan(query)
    before = repr(hr.open_census(demo_census))

    def fail(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(Location, "open", fail)
    monkeypatch.setattr(Census, "table", fail)
    assert before == f"Census({str(demo_census)!r})"
    remote = Census(Location("s3://bucket/soma", (("vfs.s3.aws_secret_access_key", "secret"),)), "2025-11-08")
    assert repr(remote) == "Census('s3://bucket/soma', release='2025-11-08')"
    known = f"Census({str(demo_census)!r}, organisms=['homo_sapiens', 'mus_musculus'])"
    assert repr(opened) == known
    assert repr(query) == (
        f"CensusQuery('mus_musculus', layer='raw', genes='measured', dataset_id=['{LIVER}'], obs_filter='nnz > 300', "
        "n_obs_joinids=600)"
    )
    assert repr(plan).startswith("Plan\n  source  CensusQuery(")


# ------------------------------------------------------------------------------------------- what cannot be meant
def test_counts_that_are_called_logged(tmp_path: Path) -> None:
    import anndata

    counts = np.array([[0, 500], [3, 1], [2, 0]], dtype=np.float32)
    path = tmp_path / "counts.h5ad"
    anndata.AnnData(counts, pd.DataFrame(index=list("abc")), pd.DataFrame(index=["g", "h"])).write_h5ad(path)
    source = hr.open_h5ad(path, holds="logged")
    with pytest.raises(hr.CountsError, match=r"^X has a value of 500, which is no logarithm"):
        hr.Plan(source, [hr.HighlyVariableGenes(1)]).to_anndata()


def test_a_file_of_logged_values_is_written(tmp_path: Path) -> None:
    import anndata

    logged = np.log1p(np.array([[0, 5], [3, 1]], dtype=np.float32))
    path, out = tmp_path / "logged.h5ad", tmp_path / "out.h5ad"
    anndata.AnnData(logged, pd.DataFrame(index=list("ab")), pd.DataFrame(index=["g", "h"])).write_h5ad(path)
    hr.Plan(hr.open_h5ad(path, holds="logged"), [hr.Scale()]).write_h5ad(out)
    assert anndata.read_h5ad(out).uns["log1p"] == {"base": np.e}


def test_one_column_for_outliers() -> None:
    with pytest.raises(hr.InputError, match=r"^FilterOutliers\(\['depth'\]\): the name of one column"):
        hr.FilterOutliers(["depth"])  # type: ignore[arg-type]


def test_a_budget_without_a_unit(small: ArraySource) -> None:
    with pytest.raises(
        hr.MemoryBudgetError, match=r"cannot run in 4 bytes \(a budget is written e.g. '1GB'\): it needs"
    ):
        hr.Plan(small, [hr.Log1p()]).explain(memory=4)

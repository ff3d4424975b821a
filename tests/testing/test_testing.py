"""The simulated Census: is it what the library for the real one expects, and do its numbers hold?"""

import importlib
import json
import sys
from pathlib import Path

import anndata
import cellxgene_census
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma
from scipy import sparse

from headrace.errors import CountsError, InputError
from headrace.testing import Dataset, SimulatedDataset, build_census, build_demo_census, genes

MOUSE_LIVER = "4546e757-34d0-4d17-be06-538318925fcd"
ORGANISMS = ["homo_sapiens", "mus_musculus"]
SMALL = {"homo_sapiens": [SimulatedDataset(30, n_vars=200), SimulatedDataset(20, "EFO:0008931", n_vars=150)]}

# Written from the Census's own schema, not from the code under test. "term": a dictionary of strings.
OBS = """
    soma_joinid int64, dataset_id term, assay term, assay_ontology_term_id term, cell_type term,
    cell_type_ontology_term_id term, development_stage term, development_stage_ontology_term_id term, disease term,
    disease_ontology_term_id term, donor_id term, is_primary_data bool, observation_joinid string,
    self_reported_ethnicity term, self_reported_ethnicity_ontology_term_id term, sex term, sex_ontology_term_id term,
    suspension_type term, tissue term, tissue_ontology_term_id term, tissue_type term, tissue_general term,
    tissue_general_ontology_term_id term, raw_sum double, nnz int64, raw_mean_nnz double, raw_variance_nnz double,
    n_measured_vars int64
"""
VAR = """
    soma_joinid int64, feature_id string, feature_name string, feature_type string, feature_length int64, nnz int64,
    n_measured_obs int64
"""
DATASETS = """
    soma_joinid int64, citation string, collection_id string, collection_name string, collection_doi string,
    collection_doi_label string, dataset_id string, dataset_version_id string, dataset_title string,
    dataset_h5ad_path string, dataset_total_cell_count int64
"""
FULL_GENE = ["EFO:0008931"]  # of those in the demo


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return build_demo_census(tmp_path_factory.mktemp("demo") / "census")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build_census(tmp_path_factory.mktemp("small") / "census", SMALL)


@pytest.fixture(scope="module")
def census(root):
    with cellxgene_census.open_soma(uri=str(root)) as opened:
        yield opened


def frame(table):
    return table.read().concat().to_pandas()


def matrix(array):
    read = sparse.csr_array(array.read().coos().concat().to_scipy())
    read.sort_indices()
    return read


def tables(census, organism):
    """Obs, var and X/raw as they are on disk."""
    experiment = census["census_data"][organism]
    return frame(experiment.obs), frame(experiment.ms["RNA"].var), matrix(experiment.ms["RNA"].X["raw"])


def kinds(schema):
    """Name and kind of each column, as in the tables above."""
    return {
        field.name: "term"
        if pa.types.is_dictionary(field.type) and field.type.value_type in (pa.string(), pa.large_string())
        else str(field.type).replace("large_string", "string")
        for field in schema
    }


def described(text):
    return dict(column.split() for column in text.split(","))


# ---------------------------------------------------------------------------------------------- logical layout


def test_tree(census):
    assert sorted(census) == ["census_data", "census_info", "census_spatial_sequencing"]
    assert sorted(census["census_info"]) == ["datasets", "organisms", "summary", "summary_cell_counts"]
    assert len(census["census_spatial_sequencing"]) == 0
    assert sorted(census["census_data"]) == ORGANISMS
    for experiment in census["census_data"].values():
        assert isinstance(experiment, tiledbsoma.Experiment)
        assert sorted(experiment.ms["RNA"]) == ["X", "feature_dataset_presence_matrix", "var"]
        assert sorted(experiment.ms["RNA"].X) == ["normalized", "raw"]


@pytest.mark.parametrize("organism", ORGANISMS)
def test_columns(census, organism):
    experiment = census["census_data"][organism]
    assert kinds(experiment.obs.schema) == described(OBS)
    assert kinds(experiment.ms["RNA"].var.schema) == described(VAR)
    assert kinds(census["census_info"]["datasets"].schema) == described(DATASETS)
    for X in experiment.ms["RNA"].X.values():
        assert X.schema.field("soma_data").type == pa.float32()
    assert experiment.ms["RNA"]["feature_dataset_presence_matrix"].schema.field("soma_data").type == pa.bool_()


def test_summaries_agree_with_obs(census):
    info = census["census_info"]
    summary = frame(info["summary"]).set_index("label")["value"]
    obs = pd.concat([frame(census["census_data"][organism].obs) for organism in ORGANISMS])
    assert summary["census_build_date"] == "2025-11-08"
    assert summary["census_schema_version"] == "2.4.0"
    assert int(summary["total_cell_count"]) == len(obs) == 3850
    assert int(summary["unique_cell_count"]) == obs["is_primary_data"].sum() < len(obs)

    organisms = frame(info["organisms"]).set_index("organism")
    assert organisms.loc["mus_musculus", "organism_label"] == "Mus musculus"
    counts = frame(info["summary_cell_counts"])
    for organism in ORGANISMS:
        its = counts[counts["organism"] == organism].set_index(["category", "label"])["total_cell_count"]
        obs = frame(census["census_data"][organism].obs)
        assert its[("all", "na")] == len(obs)
        for category in ("assay", "cell_type", "tissue_general", "suspension_type"):
            assert its[category].to_dict() == obs[category].value_counts().to_dict()


def test_datasets_are_numbered_over_organisms_and_contiguous(census):
    datasets = frame(census["census_info"]["datasets"])
    assert datasets["soma_joinid"].tolist() == list(range(7))
    joinids = {}
    for organism in ORGANISMS:
        obs, var, _ = tables(census, organism)
        assert obs["soma_joinid"].tolist() == list(range(len(obs)))
        assert var["soma_joinid"].tolist() == list(range(len(var)))
        starts = obs["dataset_id"].ne(obs["dataset_id"].shift())
        assert starts.sum() == obs["dataset_id"].nunique()
        joinids[organism] = datasets.set_index("dataset_id")["soma_joinid"][obs["dataset_id"].unique()].tolist()
        sizes = datasets.set_index("dataset_id")["dataset_total_cell_count"]
        assert obs["dataset_id"].value_counts().to_dict() == sizes[obs["dataset_id"].unique()].to_dict()
    assert joinids == {"homo_sapiens": [0, 2, 4, 5, 6], "mus_musculus": [1, 3]}


@pytest.mark.parametrize("organism", ORGANISMS)
def test_presence(census, organism):
    obs, var, X = tables(census, organism)
    datasets = frame(census["census_info"]["datasets"])["dataset_id"]
    presence = cellxgene_census.get_presence_matrix(census, organism)
    assert presence.shape == (7, len(var))
    n_measured_obs = np.zeros(len(var), np.int64)
    for joinid, dataset_id in enumerate(datasets):
        cells = (obs["dataset_id"] == dataset_id).to_numpy()
        measured = presence[[joinid], :].toarray().ravel().astype(bool)
        assert (obs["n_measured_vars"][cells] == measured.sum()).all()
        assert X[np.flatnonzero(cells)][:, np.flatnonzero(~measured)].nnz == 0
        assert measured.any() == cells.any()
        n_measured_obs += measured * cells.sum()
    assert (var["n_measured_obs"] == n_measured_obs).all()


@pytest.mark.filterwarnings("ignore:Transforming to str index")  # cellxgene_census makes AnnData warn
def test_the_library_reads_it(census):
    adata = cellxgene_census.get_anndata(census, "mus_musculus", obs_value_filter=f"dataset_id == '{MOUSE_LIVER}'")
    assert adata.n_obs == 700
    assert set(adata.obs["assay"]) == {"Smart-seq2"}
    assert adata.obs["raw_sum"].tolist() == np.asarray(adata.X.sum(axis=1, dtype=np.float64)).ravel().tolist()


# --------------------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("organism", ORGANISMS)
def test_statistics_are_those_of_the_counts(census, organism):
    obs, var, X = tables(census, organism)
    assert (X.data == np.floor(X.data)).all()
    assert X.data.min() >= 1
    values = [X.data[a:b].astype(np.float64) for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True)]
    assert obs["nnz"].tolist() == [len(cell) for cell in values]
    assert obs["raw_sum"].tolist() == [cell.sum() for cell in values]
    np.testing.assert_allclose(obs["raw_mean_nnz"], [cell.mean() for cell in values], rtol=1e-15)
    np.testing.assert_allclose(obs["raw_variance_nnz"], [cell.var(ddof=1) for cell in values], rtol=1e-12)
    assert var["nnz"].tolist() == np.bincount(X.indices, minlength=len(var)).tolist()


@pytest.mark.parametrize("organism", ORGANISMS)
def test_normalized(census, organism):
    obs, var, X = tables(census, organism)
    normalized = matrix(census["census_data"][organism].ms["RNA"].X["normalized"])
    full_gene = obs["assay_ontology_term_id"].isin(FULL_GENE).to_numpy()
    assert 0 < full_gene.sum() < len(obs)
    rows = np.repeat(np.arange(len(obs)), np.diff(X.indptr))
    expected = X.data / np.where(full_gene[rows], var["feature_length"].to_numpy()[X.indices], 1).astype(np.float64)
    expected /= np.bincount(rows, weights=expected)[rows]
    assert (normalized.indptr == X.indptr).all()
    assert (normalized.indices == X.indices).all()
    np.testing.assert_allclose(normalized.data, expected, rtol=1.6e-5)
    assert (normalized.data.view(np.uint32) % 2**8 == 0).all(), "15 of 23 bits of mantissa are left"


def test_statistics_and_shares_that_can_be_seen_by_eye(tmp_path):
    var = pd.DataFrame(
        {"feature_name": ["a", "b", "c"], "feature_length": [100, 200, 400], "feature_type": "protein_coding"},
        index=["ENSG1", "ENSG2", "ENSG3"],
    )
    obs = pd.DataFrame({"assay_ontology_term_id": ["EFO:0009922", "EFO:0008931", "EFO:0009922"]})
    X = np.array([[3, 0, 1], [2, 4, 8], [0, 5, 0]])
    root = build_census(tmp_path / "census", {"homo_sapiens": [Dataset(X, obs, var, "mine")]})
    with tiledbsoma.open(str(root)) as census:
        obs, var, raw = tables(census, "homo_sapiens")
        normalized = matrix(census["census_data"]["homo_sapiens"].ms["RNA"].X["normalized"])
    assert raw.toarray().tolist() == X.tolist()
    third = np.float32(1 / 3)
    np.testing.assert_allclose(normalized.toarray(), [[0.75, 0, 0.25], [third] * 3, [0, 1, 0]], rtol=1.6e-5)
    assert obs["raw_variance_nnz"].tolist() == [2, pytest.approx(28 / 3), 0]
    assert obs["assay"].tolist() == ["10x 3' v3", "Smart-seq2", "10x 3' v3"]
    assert obs["sex"].tolist() == ["unknown"] * 3
    assert obs["is_primary_data"].all()


def test_shares_too_small_for_a_float_become_the_smallest_one(tmp_path):
    var = pd.DataFrame(
        {"feature_name": ["a", "b"], "feature_length": [2**62, 1], "feature_type": "lncRNA"}, ["g1", "g2"]
    )
    obs = pd.DataFrame({"assay_ontology_term_id": ["EFO:0008931"]})
    counts = np.array([[1, 2**90]], np.float64)  # 2^-62 of 2^90 is 2^-152, below the smallest float, 2^-149
    root = build_census(tmp_path / "census", {"homo_sapiens": [Dataset(counts, obs, var, "mine")]})
    with tiledbsoma.open(str(root)) as census:
        normalized = matrix(census["census_data"]["homo_sapiens"].ms["RNA"].X["normalized"])
    assert normalized.data.tolist() == [2.0**-149, 1.0]


# ----------------------------------------------------------------------------------------------- physical layout


def options(array):
    """All that TileDB was told about an array, as plain values."""
    config = array.schema_config_options()
    names = ("capacity", "allows_duplicates", "tile_order", "cell_order", "dims", "attrs", "offsets_filters")
    found = {name: getattr(config, name) for name in names}
    return {name: json.loads(value) if str(value)[:1] in "[{" else value for name, value in found.items()}


def filters(described):
    """(name, level) of each filter."""
    return [(one["name"], one.get("COMPRESSION_LEVEL")) for one in described["filters"]]


def fragments(array):
    return len(list(Path(array.uri.removeprefix("file://"), "__fragments").iterdir()))


@pytest.mark.parametrize("layer", ["raw", "normalized"])
def test_tiles_and_filters_of_layers(census, layer):
    array = census["census_data"]["homo_sapiens"].ms["RNA"].X[layer]
    found = options(array)
    assert (found["capacity"], found["allows_duplicates"]) == (65536, True)
    assert (found["cell_order"], found["tile_order"]) == ("row-major", "row-major")
    assert [found["dims"][name]["tile"] for name in ("soma_dim_0", "soma_dim_1")] == ["2048", "2048"]
    assert filters(found["dims"]["soma_dim_0"]) == [("ZSTD", 9)]
    assert filters(found["dims"]["soma_dim_1"]) == [("BYTESHUFFLE", None), ("ZSTD", 9)]
    data = [("ZSTD", 13)] if layer == "normalized" else [("BYTESHUFFLE", None), ("ZSTD", 9)]
    assert filters(found["attrs"]["soma_data"]) == data
    assert fragments(array) == 1
    assert array.shape[0] > 2048 < array.shape[1], "more than one tile each way"


def test_filters_of_the_tables(census):
    experiment = census["census_data"]["homo_sapiens"]
    for table in (experiment.obs, experiment.ms["RNA"].var):
        found = options(table)
        assert fragments(table) == 1
        assert (found["capacity"], found["allows_duplicates"]) == (65536, True)
        assert filters(found["dims"]["soma_joinid"]) == [("DOUBLE_DELTA", -1), ("ZSTD", 19)]
        kind = {"int64": [("BYTESHUFFLE", None), ("ZSTD", 9)], "term": [("ZSTD", 9)]}
        kind |= {"double": kind["int64"], "string": [("ZSTD", 19)], "bool": [("ZSTD", 19)]}
        for column, attribute in found["attrs"].items():
            assert filters(attribute) == kind[kinds(table.schema)[column]], column


def test_cells_come_in_global_order_from_one_fragment_and_not_from_two(small, tmp_path):
    two = build_census(tmp_path / "two", SMALL, n_fragments=2)
    read = {}
    for root, n in ((small, 1), (two, 2)):
        with tiledbsoma.open(str(root)) as census:
            for array in census["census_data"]["homo_sapiens"].ms["RNA"].X.values():
                assert fragments(array) == n
                table = array.read().tables().concat()
                in_order = (np.diff(table["soma_dim_0"].to_numpy()) >= 0).all()
                assert in_order == (n == 1)
                read.setdefault(n, []).append(matrix(array).toarray())
    np.testing.assert_array_equal(read[1], read[2])


def test_agrees_with_the_reference_builder(census, tmp_path, monkeypatch):
    tools = Path(__file__).parents[3] / "shared" / "tools"
    if not (tools / "make_mini_census.py").exists():
        pytest.skip("the reference builder is not here")
    monkeypatch.syspath_prepend(tools)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    reference = importlib.import_module("make_mini_census")
    experiment = census["census_data"]["homo_sapiens"]
    for layer, array in experiment.ms["RNA"].X.items():
        with tiledbsoma.SparseNDArray.create(
            str(tmp_path / layer),
            type=pa.float32(),
            shape=array.shape,
            platform_config=reference.x_platform_config(layer),
        ) as expected:
            assert options(array) == options(expected)
    for name, table, fields, config in (
        ("obs", experiment.obs, reference.OBS_FIELDS, reference.OBS_PLATFORM_CONFIG),
        ("var", experiment.ms["RNA"].var, reference.VAR_FIELDS, reference.VAR_PLATFORM_CONFIG),
    ):
        schema = reference._arrow_schema(fields, reference._recategoricalize(fields, frame(table)))
        with tiledbsoma.DataFrame.create(
            str(tmp_path / name), schema=schema, domain=table.domain, platform_config=config
        ) as expected:
            assert table.schema.equals(expected.schema)
            assert options(table) == options(expected)


def test_the_docstring_says_what_is_made(root):
    said = build_demo_census.__doc__
    with cellxgene_census.open_soma(uri=str(root)) as census:
        datasets = census["census_info"]["datasets"].read().concat().to_pandas()
        cells = {organism: census["census_data"][organism].obs.read().concat().to_pandas() for organism in ORGANISMS}
    human, mouse = (len(cells[organism]) for organism in ORGANISMS)
    assert f"{human + mouse:,} simulated cells in seven datasets" in said
    assert f"Human, {human:,} cells in five datasets" in said
    assert f"Mouse, {mouse:,}" in said
    assert len(datasets) == 7
    assert cells["homo_sapiens"]["dataset_id"].nunique() == 5
    for obs in cells.values():
        for column in ("assay", "tissue"):
            assert [name for name in obs[column].unique() if name not in said] == []
    assert "COVID-19" in set(cells["homo_sapiens"]["disease"])
    assert f"and {(~cells['homo_sapiens']['is_primary_data']).sum()} cells of 10x 5' v1" in said
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert 5e6 < size < 12e6


def test_small(root):
    files = [path for path in root.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6


# ------------------------------------------------------------------------------------------- what is put into it


def contents(root):
    with tiledbsoma.open(str(root)) as census:
        info = [frame(table) for _, table in sorted(census["census_info"].items())]
        obs, var, X = tables(census, "homo_sapiens")
        return [*info, obs, var, pd.DataFrame(X.toarray())]


def test_same_seed_same_values(small, tmp_path):
    first = contents(small)
    for a, b in zip(first, contents(build_census(tmp_path / "b", SMALL)), strict=True):
        pd.testing.assert_frame_equal(a, b)
    other = contents(build_census(tmp_path / "c", SMALL, seed=1))
    assert not first[-1].equals(other[-1])


def test_a_dataset_does_not_depend_on_its_neighbours():
    table = genes("homo_sapiens")
    recipe = SimulatedDataset(600, n_vars=100, dataset_id="mine")  # more cells than are drawn at once
    first = recipe.draw("homo_sapiens", table)
    second = recipe.draw("homo_sapiens", table, number=3)
    assert first.X.shape == (600, 100)
    assert (first.X != second.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, second.obs)


def test_shuffled_cells(small, tmp_path):
    straight = contents(small)
    shuffled = contents(build_census(tmp_path / "b", SMALL, shuffle_cells=True))
    obs, X = shuffled[-3], shuffled[-1]
    assert obs["dataset_id"].ne(obs["dataset_id"].shift()).sum() > 5
    back = obs["observation_joinid"].argsort()
    there = straight[-3]["observation_joinid"].argsort()
    np.testing.assert_array_equal(X.to_numpy()[back], straight[-1].to_numpy()[there])
    assert obs["raw_sum"].tolist() == X.sum(axis=1).tolist()


@pytest.mark.filterwarnings("ignore:Transforming to str index")  # cellxgene_census makes AnnData warn
def test_own_counts_come_back(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (40, 25))
    counts[:, 0] = 1
    obs = pd.DataFrame(
        {"assay_ontology_term_id": "EFO:0009922", "cell_type": pd.Categorical(["b", None] * 20), "mine": 1},
        index=[f"cell{i}" for i in range(40)],
    )
    adata = anndata.AnnData(sparse.csr_matrix(counts), obs, genes("mus_musculus")[100:125])
    adata.raw = adata.copy()
    adata.X = np.log1p(adata.X.toarray())
    dataset = Dataset.from_anndata(adata, dataset_id="mine", title="Mine")
    given = {"mus_musculus": [SimulatedDataset(10, n_vars=50), dataset]}
    with cellxgene_census.open_soma(uri=str(build_census(tmp_path / "census", given))) as census:
        read = cellxgene_census.get_anndata(census, "mus_musculus", obs_value_filter="dataset_id == 'mine'")
        assert "Mine" in frame(census["census_info"]["datasets"])["dataset_title"].tolist()
    read.var_names = read.var["feature_id"]
    np.testing.assert_array_equal(read[:, adata.var_names].X.toarray(), counts)
    assert read.obs["cell_type"].tolist() == ["b", "unknown"] * 20
    assert "mine" not in read.obs


def test_layers_and_release(tmp_path):
    root = build_census(tmp_path / "census", SMALL, layers=["raw"], release="2024-07-01")
    with tiledbsoma.open(str(root)) as census:
        assert list(census["census_data"]["homo_sapiens"].ms["RNA"].X) == ["raw"]
        assert "2024-07-01" in frame(census["census_info"]["summary"])["value"].tolist()


def test_another_organism_with_its_own_genes(tmp_path):
    table = genes("homo_sapiens").head(60).rename(index=lambda name: name.replace("ENSG", "ENSMMUG"))
    recipes = {"macaca_mulatta": [SimulatedDataset(10, feature_ids=list(table.index[5:45]), nnz_per_cell=10)]}
    root = build_census(tmp_path / "census", recipes, genes={"macaca_mulatta": table})
    with tiledbsoma.open(str(root)) as census:
        assert tables(census, "macaca_mulatta")[1]["feature_id"].tolist() == table.index[5:45].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"datasets": {}}, "needs an organism"),
        ({"datasets": {"homo_sapiens": []}}, "needs an organism"),
        ({"datasets": {"Mus musculus": SMALL["homo_sapiens"]}}, "did you mean 'mus_musculus'"),
        ({"datasets": {"macaca_mulatta": SMALL["homo_sapiens"]}}, "give your own table"),
        (
            {"genes": {"mus_musculus": genes("mus_musculus")}},
            "genes has no table for 'homo_sapiens' (known: mus_musculus)",
        ),
        ({"datasets": {"homo_sapiens": [SimulatedDataset(5, dataset_id="x")] * 2}}, "dataset_id 'x'"),
        ({"datasets": {"homo_sapiens": [SimulatedDataset(5, n_vars=4000)]}}, "the table has 3000 genes"),
        ({"datasets": {"homo_sapiens": [SimulatedDataset(5, n_vars=90, nnz_per_cell=80)]}}, "four fifths"),
        ({"datasets": {"homo_sapiens": [SimulatedDataset(5, feature_ids=["MT-CO1"])]}}, "not in it: ['MT-CO1']"),
        ({"genes": {"homo_sapiens": genes("homo_sapiens").drop(columns="feature_type")}}, "no column 'feature_type'"),
        ({"release": "stable"}, "must be a date"),
        ({"layers": "raw"}, "layers must be some of"),
        ({"layers": ["counts"]}, "layers must be some of"),
        ({"n_fragments": 0}, "at least 1, not 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(InputError) as error:
        build_census(tmp_path / "census", **({"datasets": SMALL} | arguments))
    assert message in str(error.value)
    assert not (tmp_path / "census").exists()


def test_an_existing_path_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="exists"):
        build_demo_census(tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_failure_leaves_no_trace(tmp_path, monkeypatch):
    def fail(experiment):
        raise MemoryError

    monkeypatch.setattr("headrace.testing.build.normalized", fail)
    with pytest.raises(MemoryError):
        build_census(tmp_path / "census", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_obs": 0}, "n_obs must be at least 1"),
        ({"n_obs": 5, "nnz_per_cell": float("nan")}, "nnz_per_cell must be at least 1"),
        ({"n_obs": 5, "assay": "10x"}, "assay '10x' cannot be simulated"),
        ({"n_obs": 5, "assay": {"EFO:0009922": 0.5}}, "sum to 1"),
        ({"n_obs": 5, "assay": {}}, "sum to 1"),
        ({"n_obs": 5, "tissue": "Liver"}, "did you mean 'liver'"),
        ({"n_obs": 5, "disease": "normal || flu"}, "disease 'flu' cannot be simulated"),
        ({"n_obs": 5, "n_vars": 5, "feature_ids": ["a"]}, "not both"),
    ],
)
def test_recipes_that_cannot_be_drawn(arguments, message):
    with pytest.raises(InputError) as error:
        SimulatedDataset(**arguments)
    assert message in str(error.value)


VAR3 = genes("homo_sapiens").head(3)
OBS2 = pd.DataFrame({"assay_ontology_term_id": ["EFO:0009922"] * 2})
X23 = np.array([[1, 0, 2], [0, 3, 0]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X23, OBS2, VAR3, ""), InputError, "needs a dataset_id"),
        ((X23.T, OBS2, VAR3, "d"), InputError, "X is 3 x 2, but obs has 2 rows and var has 3"),
        ((X23[:0], OBS2[:0], VAR3, "d"), InputError, "has cells and genes"),
        ((X23, OBS2[[]], VAR3, "d"), InputError, "no column 'assay_ontology_term_id'"),
        ((X23, OBS2, VAR3.drop(columns="feature_length"), "d"), InputError, "no column 'feature_length'"),
        ((X23, OBS2, VAR3.iloc[[0, 1, 0]], "d"), InputError, "comes twice"),
        ((X23, OBS2, VAR3.assign(feature_length=0), "d"), InputError, "not above 0"),
        ((X23 * 0.3, OBS2, VAR3, "d"), CountsError, "other than 0, 1, 2"),
        ((-X23, OBS2, VAR3, "d"), CountsError, "other than 0, 1, 2"),
        ((X23 * np.nan, OBS2, VAR3, "d"), CountsError, "other than 0, 1, 2"),
        ((X23 * [[1], [0]], OBS2, VAR3, "d"), CountsError, "1 cells, the first in row 1, have no counts"),
    ],
)
def test_counts_that_cannot_be_a_dataset(arguments, error, message):
    with pytest.raises(error) as caught:
        Dataset(*arguments)
    assert message in str(caught.value)


def test_datasets_that_contradict_each_other(tmp_path):
    other = Dataset(X23, OBS2, VAR3.assign(feature_length=1), "other")
    with pytest.raises(InputError, match=f"differ in the name, length or type of gene '{VAR3.index[0]}'"):
        build_census(tmp_path / "census", {"homo_sapiens": [Dataset(X23, OBS2, VAR3, "one"), other]})


# ------------------------------------------------------------------------------------------ does it look like life


def test_gene_table():
    for organism, n, prefix in (("homo_sapiens", 3000, "ENSG"), ("mus_musculus", 2500, "ENSMUSG")):
        table = genes(organism)
        assert (len(table), table.index.is_unique) == (n, True)
        assert table.index.str.startswith(prefix).all()
        assert table.dtypes.astype(str).to_dict() == {
            "feature_name": "object",
            "feature_length": "int64",
            "feature_type": "object",
        }
        symbols = table["feature_name"].str.upper()
        assert symbols.str.startswith("MT-").sum() == 13
        assert symbols.str.match(r"RP[SL]\d").sum() > 70
        assert symbols.duplicated().sum() >= 2
        assert (table["feature_type"] == "protein_coding").mean() > 0.85
        assert (table["feature_type"] == "lncRNA").sum() > 200
    assert genes("mus_musculus").loc["ENSMUSG00000029368", "feature_name"] == "Alb"
    with pytest.raises(InputError, match="no genes are packaged for organism 'human'"):
        genes("human")


def test_full_length_counts_are_reads_in_proportion_to_length(census):
    obs, var, X = tables(census, "homo_sapiens")
    full_gene = obs["assay_ontology_term_id"].isin(FULL_GENE).to_numpy()
    assert obs["raw_sum"][full_gene].between(1e5, 1.01e6).all()
    assert obs["raw_sum"][~full_gene].max() < 1e4
    correlation = {}
    for name, cells in (("full", full_gene), ("tag", ~full_gene)):
        counts = X[np.flatnonzero(cells)]
        seen = np.flatnonzero((counts != 0).sum(axis=0) > 0.05 * cells.sum())
        per_find = counts.sum(axis=0)[seen] / (counts != 0).sum(axis=0)[seen]
        ranks = var["feature_length"].iloc[seen].rank(), pd.Series(per_find).rank()
        correlation[name] = np.corrcoef(*ranks)[0, 1]
    assert correlation["full"] > 0.7
    assert abs(correlation["tag"]) < 0.2


def test_nnz_per_cell_is_kept(census):
    obs = frame(census["census_data"]["mus_musculus"].obs)
    assert obs.groupby("dataset_id", observed=True)["nnz"].mean()[MOUSE_LIVER] == pytest.approx(700, rel=0.1)


def test_cell_types_are_told_apart(census):
    """The nearest centroid of log-counts, learnt on half of the cells, names the type of nearly all others."""
    obs, _, X = tables(census, "mus_musculus")
    cells = np.flatnonzero(obs["dataset_id"] == MOUSE_LIVER)
    totals = obs["raw_sum"].to_numpy()[cells, None]
    logged = np.log1p(X[cells].toarray() / totals * 1e4)
    types = obs["cell_type"].astype(str).to_numpy()[cells]
    names = np.unique(types)
    assert len(names) == 5
    learnt, asked = np.arange(len(cells)) % 2 == 0, np.arange(len(cells)) % 2 == 1
    centroids = np.stack([logged[learnt & (types == name)].mean(axis=0) for name in names])
    nearest = names[((logged[asked][:, None, :] - centroids) ** 2).sum(axis=2).argmin(axis=1)]
    assert (nearest == types[asked]).mean() > 0.95


def test_every_cell_has_a_count():
    table = genes("homo_sapiens").tail(40)  # hardly expressed at this depth
    dataset = SimulatedDataset(300, nnz_per_cell=1).draw("homo_sapiens", table)
    assert (dataset.X.sum(axis=1) >= 1).all()

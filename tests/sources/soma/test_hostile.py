"""SOMA experiments that somebody else has made: members elsewhere, nnz of another X, rows without end, numbers beyond."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma as soma
from scipy import sparse

import headrace as hr
from headrace.cli import main
from headrace.sources.ranges import CellRange
from headrace.sources.soma.genes import Genes
from headrace.sources.soma.matrix import XReader
from headrace.sources.soma.members import is_inside
from headrace.sources.soma.tables import to_frame
from tests.somaio import from_anndata

N, G = 60, 20


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.poisson(0.7, (N, G)).astype(np.float32))
    obs = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * (N // 2))}, index=[f"c{i}" for i in range(N)])
    return ad.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(G)]))


@pytest.fixture
def experiment(adata: ad.AnnData, tmp_path: Path) -> str:
    uri = str(tmp_path / "here" / "e")
    (tmp_path / "here").mkdir()
    from_anndata(uri, adata, "RNA", X_layer_name="raw")
    return uri


def cells(source: hr.Source) -> np.ndarray:
    return np.concatenate([chunk.X.toarray() for chunk in source.read(source.refs(10**6))])


# --------------------------------------------------------------------------------------------------------- elsewhere
MEMBERS = ["obs", "ms", "ms/RNA", "ms/RNA/var", "ms/RNA/X", "ms/RNA/X/raw"]


def moved(experiment: str, member: str, how: str) -> str:
    """Put a member of an experiment elsewhere, and have the experiment say so; return where it is."""
    inside = Path(experiment) / member
    other = inside.name + ".elsewhere"
    outside = Path(experiment).parent.parent / "outside"
    outside.mkdir()
    there = outside / other if how != "below" else Path(experiment) / other
    shutil.move(inside, there)
    if how == "link":
        inside.symlink_to(there)
        return str(there)
    parent = str(inside.parent)
    kind = soma.open(str(there)).__class__
    with soma.open(parent, "d") as collection:
        del collection[inside.name]
    time.sleep(0.01)  # what is written within one millisecond of TileDB's clock has no order
    with soma.open(parent, "w") as collection:
        collection.set(inside.name, kind.open(str(there)), use_relative_uri=how == "relative")
    return str(there)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("how", ["absolute", "link"])
def test_a_member_elsewhere_is_refused_by_name(how: str, member: str, experiment: str, adata: ad.AnnData) -> None:
    there = moved(experiment, member, how)
    name = member.rpartition("/")[2]
    for reader in ("tiles", "tiledb"):
        with pytest.raises(hr.InputError, match=f"its member '{name}' is at .*outside=True") as error:
            hr.open_soma(experiment, reader=reader).spec  # type: ignore[arg-type] # noqa: B018
        assert Path(there).name in str(error.value) or how == "link"
        source = hr.open_soma(experiment, outside=True, reader="auto")
        np.testing.assert_array_equal(cells(source), adata.X.toarray())


def test_a_member_elsewhere_but_below_is_read(experiment: str, adata: ad.AnnData) -> None:
    moved(experiment, "ms/RNA/X/raw", "below")
    np.testing.assert_array_equal(cells(hr.open_soma(experiment)), adata.X.toarray())


def test_the_same_by_any_spelling(experiment: str, adata: ad.AnnData, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(experiment)
    for uri in (experiment, f"file://{experiment}", f"{experiment}/", tmp_path / "link", f"{tmp_path}/here/../here/e"):
        np.testing.assert_array_equal(cells(hr.open_soma(uri)), adata.X.toarray())


def test_on_the_command_line(experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved(experiment, "obs", "absolute")
    out = str(tmp_path / "out.h5ad")
    assert main(["export", "--soma", experiment, "--out", out]) == 1
    assert "--outside reads it" in capsys.readouterr().err
    assert main(["export", "--soma", experiment, "--out", out, "--outside"]) == 0


def test_a_census_whose_cells_are_elsewhere(demo_census: Path, tmp_path: Path) -> None:
    root = tmp_path / "here" / "census"
    shutil.copytree(demo_census, root)
    shutil.move(root / "census_data" / "mus_musculus" / "obs", tmp_path / "obs")
    (root / "census_data" / "mus_musculus" / "obs").symlink_to(tmp_path / "obs")
    with pytest.raises(hr.InputError, match="its member 'obs' is at .*outside=True"):
        hr.open_census(root).query("mus_musculus")
    for count in (
        lambda: hr.open_census(root).count("mus_musculus"),
        lambda: hr.open_census(root).count("mus_musculus", by="assay"),
    ):
        with pytest.raises(hr.InputError, match="its member 'obs' is at .*outside=True"):
            count()
    trusted = hr.open_census(root, outside=True)
    assert trusted.query("mus_musculus").spec.n_obs == trusted.count("mus_musculus")["n_obs"].item()


@pytest.mark.parametrize("member", ["", *MEMBERS])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_file_of_a_member_that_is_a_link(what: str, member: str, experiment: str, adata: ad.AnnData) -> None:
    """As with the member itself: what is read is below what was named."""
    there = Path(experiment) / member
    folder = there / ("__group" if (there / "__group").exists() else "__schema")
    moved = folder if what == "folder" else next(file for file in folder.iterdir() if file.is_file())
    outside = Path(experiment).parent.parent / "outside"
    shutil.move(moved, outside)
    moved.symlink_to(outside)
    with pytest.raises(hr.InputError, match=rf"{moved.name} is a link to {outside}.*outside=True"):
        hr.open_soma(experiment).spec  # noqa: B018
    np.testing.assert_array_equal(cells(hr.open_soma(experiment, outside=True)), adata.X.toarray())
    moved.unlink()
    inside = Path(experiment) / "inside"
    shutil.move(outside, inside)
    moved.symlink_to(inside)
    np.testing.assert_array_equal(cells(hr.open_soma(experiment)), adata.X.toarray())


def test_dots_after_a_link(tmp_path: Path) -> None:
    """TileDB takes them now as the system does and now as text: both have to be inside."""
    (tmp_path / "e" / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "e" / "link").symlink_to(tmp_path / "e" / "a" / "b" / "c")
    root = str(tmp_path / "e")
    assert is_inside(root, f"{root}/link/obs")
    assert is_inside(root, f"{root}/link/../obs")
    assert not is_inside(root, f"{root}/link/../../obs")


@pytest.mark.parametrize("member", ["obs", "ms"])
def test_an_experiment_without_a_part(member: str, experiment: str) -> None:
    with soma.open(experiment, "d") as collection:
        del collection[member]
    with pytest.raises(hr.InputError, match=f"is no SOMA experiment: it has no {member}"):
        hr.open_soma(experiment)


@pytest.mark.parametrize("shape", [(N,), (N, G, 2)])
@pytest.mark.parametrize("reader", ["auto", "tiledb"])
def test_an_x_of_other_dimensions(reader: Any, shape: tuple[int, ...], experiment: str) -> None:
    with soma.open(f"{experiment}/ms/RNA/X", "w") as X:
        X.add_new_sparse_ndarray("odd", type=pa.float32(), shape=shape)
    with pytest.raises(hr.InputError, match=f"has {len(shape)} dimensions, not 2"):
        cells(hr.open_soma(experiment, layer="odd", reader=reader))


@pytest.mark.parametrize(
    ("root", "uri", "inside"),
    [
        ("s3://b/x", "s3://b/x/obs", True), ("s3://b/x", "s3://b/y", True), ("s3://b/x", "S3://b/y", True),
        ("s3://b/x", "s3://b2/x", False), ("s3://b/x", "file:///x", False), ("s3://b/x", "/x", False),
        ("s3://b/x", "https://b/x", False), ("/d/x", "s3://b/x", False), ("/d/x", "/d/x/obs", True),
        ("/d/x", "/d/xy", False), ("/d/x", "file:///d/x/obs", True), ("file:///d/x", "/d/x/obs", True),
        ("/d/x", "file://localhost/d/x/obs", True), ("/d/x", "/d/x/../y", False), ("/d/x", "FILE:///etc/passwd", False),
        ("gs://b/x", "gcs://b/y", True), ("/", "/d", True), ("azure://b/x", "azure://c/x", False),
        ("/d/x", "/d/x/a/../../y", False), ("/d/x", "tiledb://a/b", False), ("s3://b/x", "s3://B/x", True),
        ("s3://b/x", "s3://b/../c/x", False), ("s3://b/x", "s3://b/x/../../../c", False), ("s3://b", "s3://b", True),
        ("s3://b/x", "s3://b/x/../y", True), ("s3://b/x", "s3://b/%2e%2E/c", False), ("s3://b/x", "s3://b//y/", True),
        ("s3://b/x", "s3://[b/x", False), ("s3://b/x", "s3://b?/x", False), ("s3://b/x", "s3://b#c/x", False),
        ("s3://b/x", "s3://c@b/x", False), ("s3://b/x", "s3://b\n/x", False), ("s3://b/x", "s3://b:80/x", False),
        ("/d/x", "", False), ("/d/x", "file:///d/x/", True), ("/d/x", "/d/x/.", True), ("/d/x", "/d/x\0/../../y", True),
        ("/d/x", "/d/X/obs", False), ("/d/x", "file:/d/x/obs", False), ("/d/x", "x/obs", False),
        ("/d/x/", "/d/x/obs", True), ("/d/x", "//d//x/obs", True),
    ],
)  # fmt: skip
def test_what_is_inside(root: str, uri: str, inside: bool) -> None:
    assert is_inside(root, uri) is inside


# --------------------------------------------------------------------------------------------------------------- nnz
@pytest.mark.parametrize(
    "nnz",
    [
        lambda right: right + 5, lambda right: right[::-1].copy(), lambda right: right * 0, lambda right: right * 10**8,
        lambda right: -right, lambda right: np.where(np.arange(len(right)) == 0, 10**9, right), lambda right: right,
    ],
    ids=["larger", "turned round", "none", "huge", "negative", "one huge", "right"],
)  # fmt: skip
@pytest.mark.parametrize("reader", ["tiles", "tiledb"])
def test_nnz_of_another_x_is_left_out(
    reader: Any, nnz: Callable[[np.ndarray], np.ndarray], adata: ad.AnnData, tmp_path: Path
) -> None:
    right = np.diff(adata.X.indptr).astype(np.int64)
    sliced = adata[:, :15].copy()
    sliced.X.eliminate_zeros()
    fewer = np.diff(sliced.X.indptr).astype(np.int64)
    sliced.obs["nnz"] = nnz(right) if nnz(right).sum() != right.sum() else right
    assert (sliced.obs["nnz"].to_numpy() != fewer).any()
    uri = str(tmp_path / "e")
    from_anndata(uri, sliced, "RNA", X_layer_name="raw")
    source = hr.open_soma(uri, reader="auto" if reader == "tiles" else reader)
    np.testing.assert_array_equal(cells(source), sliced.X.toarray())
    some = hr.open_soma(uri, obs_filter="kind == 'b'", reader="auto" if reader == "tiles" else reader)
    np.testing.assert_array_equal(cells(some), sliced.X.toarray()[1::2])
    hr.Plan(source, [hr.NormalizeTotal(), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=3)]).to_anndata()


@pytest.mark.parametrize("nnz", ["turned round", "all in one", "one more, one less"])
@pytest.mark.parametrize("reader", ["auto", "tiledb"])
def test_nnz_wrong_by_cell_and_right_in_total(
    reader: Any, nnz: str, adata: ad.AnnData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = np.diff(adata.X.indptr).astype(np.int64)
    wrong = right[::-1].copy()
    if nnz == "all in one":
        wrong = np.minimum(np.maximum(right.sum() - G * np.arange(N), 0), G)
    elif nnz == "one more, one less":
        wrong = right.copy()
        wrong[[3, 50]] += [1, -1]
    assert wrong.sum() == right.sum()
    bad = adata.copy()
    bad.obs["nnz"] = wrong
    uri = str(tmp_path / "e")
    from_anndata(uri, bad, "RNA", X_layer_name="raw")
    with pytest.raises(hr.SourceError, match=r"obs\['nnz'\] says.*contradicts itself; .*use_nnz=False leaves that out"):
        cells(hr.open_soma(uri, reader=reader))
    source = hr.open_soma(uri, reader=reader, use_nnz=False)
    np.testing.assert_array_equal(cells(source), adata.X.toarray())
    assert any("no nnz of obs" in note for note in source.notes) == (
        reader == "auto" and bool(source._choice.fragments)
    )
    told = ["export", "--soma", uri, "--reader", reader, "--out", str(tmp_path / "x.h5ad")]
    assert main(told) == 1
    assert "then --ignore-nnz leaves that out" in capsys.readouterr().err
    assert main([*told, "--ignore-nnz"]) == 0
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "x.h5ad").X.toarray(), adata.X.toarray())


def test_nnz_that_is_right_is_used(demo_census: Path) -> None:
    assert hr.open_soma(demo_census / "census_data" / "mus_musculus").cells.nnz is not None


@pytest.mark.parametrize("value", [2**40, 10**9, -1])
def test_nnz_of_a_census_that_cannot_be(value: int, demo_census: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.sources.soma import ordered

    real = ordered.Ordered.add

    def lying(self: Any, joinids: Any, nnz: Any) -> None:
        real(self, joinids, np.where(joinids == joinids[3], value, nnz))

    monkeypatch.setattr(ordered.Ordered, "add", lying)
    with pytest.raises(hr.SourceError, match="an nnz of .* which no cell of its genes can have"):
        hr.open_census(demo_census).query("mus_musculus")


def test_a_spool_is_not_that_of_other_annotations(experiment: str) -> None:
    """A run goes on with what it has kept only if obs is what it was: its parts hold obs, too."""
    before = hr.open_soma(experiment).identity()
    assert hr.open_soma(experiment, reader="tiledb").identity() == before
    with soma.open(f"{experiment}/obs") as obs:
        table = obs.read().concat()
    kind = table.schema.get_field_index("kind")
    turned = table.set_column(kind, table.schema.field(kind), pa.chunked_array([table["kind"].combine_chunks()[::-1]]))
    with soma.open(f"{experiment}/obs", "w") as obs:
        obs.write(turned)
    assert hr.open_soma(experiment).identity() != before


@pytest.mark.parametrize("kind", ["plain", "categories"])
def test_text_that_is_no_utf8(kind: str) -> None:
    """Found by mutation: damaged bytes of text in obs."""
    offsets = pa.array([0, 1, 4], pa.int32()).buffers()[1]
    text = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"a\xffbc"))
    column = text if kind == "plain" else pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), text)
    with pytest.raises(hr.SourceError, match="column 'name' cannot be read, it is damaged"):
        to_frame(pa.table({"name": column}))


@pytest.mark.parametrize("known", [None, {}], ids=["at once", "going on"])
@pytest.mark.parametrize("codes", [[0, 1, 80, 1], [0, -64, None, 1], [-1, 0, 1, 1], [2, None, 0, 0]])
def test_codes_of_categories_that_there_are_not(codes: list[int | None], known: dict[str, Any] | None) -> None:
    """Found by mutation: they went on as they were, into the file."""
    column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(["a", "b"]), safe=False)
    wrong = next(code for code in codes if code not in (0, 1, None))
    with pytest.raises(hr.SourceError, match=f"column 'kind' cannot be read, it is damaged: .*{wrong}"):
        to_frame(pa.table({"kind": column}), known)


# ----------------------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300, -1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_that_are_none(value: float, dtype: Any, adata: ad.AnnData, tmp_path: Path) -> None:
    bad = adata.copy()
    bad.X = bad.X.astype(dtype)
    with np.errstate(over="ignore"):
        bad.X.data[37] = value
    row = int(np.searchsorted(bad.X.indptr, 37, side="right")) - 1
    uri = str(tmp_path / "e")
    from_anndata(uri, bad, "RNA", X_layer_name="raw")
    bad.write_h5ad(tmp_path / "e.h5ad")
    said = rf"cell '?c?{row}'? has (-?inf|nan) for gene 'g{bad.X.indices[37]}'; numbers are needed"
    for source in (hr.open_soma(uri), hr.open_soma(uri, reader="tiledb")):
        for steps in ([hr.NormalizeTotal(1e4)], [hr.Log1p()], []):
            with pytest.raises(hr.SourceError, match=said):
                hr.Plan(source, steps).to_anndata()
    with pytest.raises((hr.SourceError, hr.CountsError)):
        hr.Plan(hr.open_h5ad(tmp_path / "e.h5ad"), [hr.NormalizeTotal(1e4)]).to_anndata()


# ------------------------------------------------------------------------------------------------------------- bombs
class Endless(XReader):
    """A reader of an array whose row 7 has as many values as one likes, a million at a time."""

    def __init__(self, column: int, most: int) -> None:
        super().__init__(None, np.arange(N), None, np.arange(G, dtype=np.int32))
        self.column, self.most, self.asked = column, most, 0

    def _columns(self, joinids: npt.NDArray[np.int64]) -> Iterator[tuple[Any, Any, Any]]:
        yield np.array([6, 7]), np.array([1, 2]), np.array([5.0, 6.0], np.float32)
        n = 10**6
        for number in range(self.most):
            self.asked = number
            yield np.full(n, 7), np.full(n, self.column), np.ones(n, np.float32)
        yield np.array([8]), np.array([3]), np.array([7.0], np.float32)


def test_a_row_of_values_without_end_is_refused_at_once() -> None:
    reader = Endless(3, 10**6)
    with pytest.raises(hr.SourceError, match="cell 7 has more values in X than there are genes"):
        next(reader.read([CellRange(0, N)]))
    assert reader.asked == 0


@pytest.mark.parametrize("column", [G, 10**9, -1])
def test_values_of_no_genes_take_no_memory(column: int) -> None:
    reader = Endless(column, 60)
    tracemalloc.start()
    (X,) = reader.read([CellRange(0, N)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.asked == 59
    expected = np.zeros((N, G))
    expected[6, 1], expected[7, 2], expected[8, 3] = 5, 6, 7
    np.testing.assert_array_equal(X.toarray(), expected)
    assert peak < 150e6, "60 parts have 1,200 MB"


@pytest.mark.parametrize("reader", ["auto", "tiledb"])
@pytest.mark.parametrize("columns", ["of no genes", "of one gene"])
def test_a_row_far_longer_than_there_are_genes(columns: str, reader: Any, adata: ad.AnnData, tmp_path: Path) -> None:
    uri = str(tmp_path / "e")
    from_anndata(uri, adata, "RNA", X_layer_name="small")
    of = np.arange(200_000) if columns == "of no genes" else np.full(200_000, 3)
    twice = {"tiledb": {"create": {"allows_duplicates": True}}}
    ones, shape = np.ones(len(of), np.float32), (N, int(of.max()) + 1)
    with soma.open(f"{uri}/ms/RNA/X", "w") as X:
        made = X.add_new_sparse_ndarray("raw", type=pa.float32(), shape=shape, platform_config=twice)
        made.write(pa.SparseCOOTensor.from_numpy(ones, np.stack([np.full(len(of), 7), of], 1), shape=shape))
    source = hr.open_soma(uri, layer="raw", reader=reader)
    if columns == "of no genes":
        assert hr.Plan(source).to_anndata().X.sum() == G
    else:
        with pytest.raises(hr.SourceError, match="more values in X than there are genes"):
            hr.Plan(source).to_anndata()


@pytest.mark.parametrize(("joinids", "said"), [([0, 1 << 40], "no genes are numbered so"), ([3, 3], "several genes")])
def test_genes_numbered_as_no_genes_are(joinids: list[int], said: str) -> None:
    var = pd.DataFrame({"soma_joinid": joinids, "id": ["a", "b"]})
    with pytest.raises(hr.SourceError, match=said):
        Genes.of(var, "id")


@pytest.mark.parametrize(
    "where",
    [
        "__group",
        "census_info/__group",
        "census_data/__group",
        "census_info/organisms/__schema",
        "census_data/mus_musculus/ms/RNA/feature_dataset_presence_matrix/__schema",
    ],
)
def test_what_lists_members_and_tables_is_damaged(where: str, demo_census: Path, tmp_path: Path) -> None:
    """Any byte of it: ours, or of no use."""
    shutil.copytree(demo_census, tmp_path / "census")
    (path,) = (one for one in (tmp_path / "census" / where).iterdir() if one.is_file())
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), len(whole) // 6):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x72]) + whole[at + 1 :])
        try:
            _ = hr.open_census(tmp_path / "census").query("mus_musculus").spec
        except (hr.SourceError, hr.InputError):
            refused += 1
    assert refused > 2

"""`verify_h5ad` finds what is wrong with a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.sinks.h5ad.digests import RowDigest, digests, row_checksums, text_checksum
from headrace.sinks.h5ad.verify import UNRECORDED
from headrace.sources.arrays import ArraySource
from tests.conftest import LIVER


@pytest.fixture(scope="module", params=[None, "gzip"], ids=["plain", "gzip"])
def good(request: pytest.FixtureRequest, demo_census: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "liver.h5ad"
    query = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    hr.Plan(query, hr.recipes.full_length(min_genes=200)).write_h5ad(path, compression=request.param)
    return path


def test_a_good_file(good: Path) -> None:
    verdict = hr.verify_h5ad(good)
    assert verdict.problems == ()
    with h5py.File(good) as file:
        assert (verdict.n_obs, verdict.n_vars) == tuple(file["X"].attrs["shape"])
        assert verdict.nnz == len(file["X/data"])
    assert verdict.provenance["census"]["census_build_date"] == "2025-11-08"


def allocated(path: Path) -> np.ndarray:
    """Offsets of the bytes that hold something: chunks of numbers and text, not the gaps between objects."""
    offsets = []
    with h5py.File(path) as file:

        def look(name: str, entry: object) -> None:
            if isinstance(entry, h5py.Dataset) and entry.chunks:
                for i in range(entry.id.get_num_chunks()):
                    info = entry.id.get_chunk_info(i)
                    if entry.dtype.kind != "O":
                        offsets.append(np.arange(info.byte_offset, info.byte_offset + info.size))

        file.visititems(look)
    return np.concatenate(offsets)


def test_it_finds_100_of_100_flipped_bits(good: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    original = good.read_bytes()
    path = tmp_path / "broken.h5ad"
    missed = []
    for at in rng.choice(allocated(good), 100):
        broken = bytearray(original)
        broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            if not hr.verify_h5ad(path).problems:
                missed.append(int(at))
        except hr.InputError:
            pass
    assert missed == []


@pytest.mark.parametrize("text", [b"hepatocyte", b"feature_name", b"csr_matrix", b"sha", b"SaveLayer"])
def test_it_finds_changed_text(text: bytes, good: Path, tmp_path: Path) -> None:
    original = good.read_bytes()
    at = original.find(text)
    if at < 0:
        pytest.skip(f"{text!r} is not in the file as it is")
    broken = bytearray(original)
    broken[at + 1] ^= 1
    path = tmp_path / "broken.h5ad"
    path.write_bytes(broken)
    assert hr.verify_h5ad(path).problems


def move(indices: h5py.Dataset) -> None:
    """Take a value to the next column, where there is room for it."""
    first = indices[:1000].astype(int)
    at = int(np.flatnonzero(np.diff(first) > 1)[0])
    indices[at] = first[at] + 1


def widen(matrix: h5py.Group) -> None:
    values = matrix["data"][:].astype(np.float64)
    del matrix["data"]
    matrix["data"] = values


CHANGES = {
    "unsorted": (lambda f: f["X/indices"].__setitem__(slice(0, 2), f["X/indices"][:2][::-1]), "columns not sorted"),
    "out of range": (lambda f: f["X/indices"].__setitem__(0, 10**6), "a column outside of the genes"),
    "value": (lambda f: f["X/data"].__setitem__(5, f["X/data"][5] * 1.0001), "X: the sums of its rows"),
    "layer value": (lambda f: f["layers/counts/data"].__setitem__(7, 8191), "layers/counts: the sums of its rows"),
    "last value": (lambda f: f["X/data"].__setitem__(-1, f["X/data"][-1] * 2), "X: the sums of its rows"),
    "column": (lambda f: move(f["X/indices"]), "X: the sums of its rows"),
    "rows": (lambda f: f["uns/headrace/digests/rows"].__delitem__("X"), "X: no digest of its rows"),
    "digest": (lambda f: f["uns/headrace/digests/text"].__setitem__((), "00000001"), "the text of the file"),
    "encoding": (
        lambda f: f["uns/headrace/digests/text"].attrs.__setitem__("encoding-version", "0.3.0"),
        "the digests have other attributes",
    ),
    "category": (lambda f: f["obs/cell_type/codes"].__setitem__(3, 120), "codes of no category"),
    "dtype": (lambda f: widen(f["X"]), "values are float64"),
    "zero": (lambda f: f["X/data"].__setitem__(5, 0), "stored zeros"),
    "nan": (lambda f: f["X/data"].__setitem__(5, np.nan), "NaN"),
    "short": (lambda f: f["X/data"].resize(10, axis=0), "non-zeros"),
    "indptr": (lambda f: f["X/indptr"].__setitem__(3, -1), "indptr"),
    "obs": (lambda f: f["obs/raw_sum"].resize(3, axis=0), "has 3 entries"),
    "text": (lambda f: f["var/feature_name"].__setitem__(0, "other"), "the text of the file"),
    "attribute": (lambda f: f["X"].attrs.__setitem__("encoding-version", "0.1.1"), "the attributes"),
    "uns": (lambda f: f["uns"].pop("headrace"), "does not say how it was made"),
    "layer": (lambda f: f.__delitem__("var"), "var is missing"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_names_what_is_wrong(change: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.h5ad"
    shutil.copy(good, path)
    make, said = CHANGES[change]
    with h5py.File(path, "r+") as file:
        if change == "uns":
            del file["uns/headrace"]
        else:
            make(file)
    assert any(said in problem for problem in hr.verify_h5ad(path).problems), hr.verify_h5ad(path).problems


def test_no_file_and_no_hdf5(tmp_path: Path) -> None:
    with pytest.raises(hr.InputError, match="there is no file"):
        hr.verify_h5ad(tmp_path / "nowhere.h5ad")
    (tmp_path / "text.h5ad").write_text("text")
    with pytest.raises(hr.InputError, match="is no HDF5 file"):
        hr.verify_h5ad(tmp_path / "text.h5ad")
    with pytest.raises(hr.InputError, match="is a folder"):
        hr.verify_h5ad(tmp_path)
    (tmp_path / "empty.h5ad").touch()
    with pytest.raises(hr.InputError, match="is empty, 0 bytes"):
        hr.verify_h5ad(tmp_path / "empty.h5ad")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["matrix"] = np.arange(4)
    with pytest.raises(hr.InputError, match="is an HDF5 file, but no .h5ad: it has neither obs nor var"):
        hr.verify_h5ad(tmp_path / "other.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "other.h5").read_bytes()[:-100])
    with pytest.raises(hr.InputError, match="is cut off"):
        hr.verify_h5ad(tmp_path / "cut.h5")


# ------------------------------------------------------------------------------------------------ files of others
def foreign(path: Path, X: Any) -> Path:
    """Write a file as anndata does, with what headrace would write otherwise."""
    adata = ad.AnnData(X, layers={"same": X})
    adata.uns["log1p"] = {"base": None}
    adata.obs["kind"] = pd.Categorical(["a", "b"] * (adata.n_obs // 2))
    adata.write_h5ad(path)
    return path


COUNTS = np.random.default_rng(0).poisson(0.5, (60, 40)).astype(np.float32)
FORMS = {
    "csr": lambda: sparse.csr_matrix(COUNTS),
    "csc": lambda: sparse.csc_matrix(COUNTS),
    "dense": lambda: COUNTS.copy(),
    "float64": lambda: sparse.csr_matrix(COUNTS.astype(np.float64)),
    "whole": lambda: sparse.csr_matrix(COUNTS.astype(np.int64)),
    "zeros": lambda: with_zero(sparse.csr_matrix(COUNTS)),
}


def with_zero(X: Any) -> Any:
    X.data[3] = 0
    return X


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_another_program(form: str, tmp_path: Path) -> None:
    """That headrace did not write it is all that there is to say."""
    verdict = hr.verify_h5ad(foreign(tmp_path / "x.h5ad", FORMS[form]()))
    assert verdict.problems == (UNRECORDED,)
    assert (verdict.n_obs, verdict.n_vars) == COUNTS.shape
    assert verdict.nnz == (COUNTS.size if form == "dense" else np.count_nonzero(COUNTS))
    assert verdict.provenance == {}


def test_a_file_that_another_program_has_saved(good: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(good)
    del adata.uns["headrace"]
    adata.write_h5ad(tmp_path / "x.h5ad")
    assert hr.verify_h5ad(tmp_path / "x.h5ad").problems == (UNRECORDED,)


@pytest.mark.parametrize(
    ("form", "name", "value", "said"),
    [
        ("csr", "X/indices", 40, "X: a column outside of the genes in cells 0 to 60"),
        ("csc", "X/indices", 60, "X: a row outside of the cells in genes 0 to 40"),
        ("csr", "X/data", np.nan, "X: NaN or infinity in cells"),
        ("csc", "layers/same/data", np.inf, "layers/same: NaN or infinity in genes"),
        ("csc", "X/indptr", -1, "X: indptr does not begin at 0, or decreases, or has not one entry per gene"),
        ("csr", "obs/kind/codes", 2, "obs['kind'] has codes of no category"),
    ],
)
def test_a_file_of_another_program_that_is_broken(
    form: str, name: str, value: float, said: str, tmp_path: Path
) -> None:
    path = foreign(tmp_path / "x.h5ad", FORMS[form]())
    with h5py.File(path, "r+") as file:
        file[name][3] = value
    first, *others = hr.verify_h5ad(path).problems
    assert first == UNRECORDED
    assert any(said in problem for problem in others), others


# -------------------------------------------------------------------------------------------- what has no checksum
def held() -> ArraySource:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"n": np.arange(50)}, index=[f"cell {i}" for i in range(50)])
    var = pd.DataFrame(index=[f"gene {i}" for i in range(20)])
    return ArraySource(rng.poisson(1.0, (50, 20)), obs, var, uns={"numbers": np.arange(5.0), "more": {"of": np.eye(2)}})


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("name", ["X/data", "X/indices", "obs/n", "uns/numbers", "uns/more/of"])
def test_numbers_without_a_checksum(name: str, compression: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.h5ad"
    hr.Plan(held()).write_h5ad(path, checksum=False, compression=compression)
    assert hr.verify_h5ad(path).problems == ()
    with h5py.File(path, "r+") as file:
        last = tuple(size - 1 for size in file[name].shape)
        file[name][last] = file[name][last] + 1
    assert hr.verify_h5ad(path).problems


def tables() -> ArraySource:
    """With a table as scanpy's of markers, longer than a block of what is read at once."""
    n = 70_000
    table = np.empty(
        n, dtype=[("text", object), ("short", "U5"), ("score", "f4"), ("count", "i8"), ("pair", "f8", (2,))]
    )
    table["text"], table["short"] = [f"gene {i}" for i in range(n)], "déjà"
    for name in ("score", "count"):
        table[name] = np.arange(n)
    table["pair"] = np.arange(2.0 * n).reshape(n, 2)
    source = held()
    return ArraySource(source.X, source.obs, source.var, uns={"mine": {"table": table}})


def test_tables_are_written_as_anndata_writes_them(tmp_path: Path) -> None:
    source, path = tables(), tmp_path / "x.h5ad"
    hr.Plan(source).write_h5ad(path)
    table = source.spec.uns["mine"]["table"]
    got = ad.read_h5ad(path).uns["mine"]["table"]
    assert got.dtype.names == table.dtype.names
    for name in table.dtype.names:
        np.testing.assert_array_equal(got[name].astype(table.dtype[name].base), table[name])
    with h5py.File(path) as file, h5py.File(tmp_path / "theirs.h5", "w") as theirs:
        ad.io.write_elem(theirs, "table", table)
        ours = file["uns/mine/table"]
        assert ours.dtype == theirs["table"].dtype
        assert dict(ours.attrs) == dict(theirs["table"].attrs)


@pytest.mark.parametrize("column", ["text", "short", "score", "count", "pair"])
@pytest.mark.parametrize("row", [0, 65_535, 65_536, 69_999])
@pytest.mark.parametrize("before", [False, True], ids=["now", "of before"])
def test_it_finds_a_changed_entry_of_a_table(column: str, row: int, before: bool, tmp_path: Path) -> None:
    """Also in files of before tables had a digest of their own."""
    path = tmp_path / "x.h5ad"
    hr.Plan(tables()).write_h5ad(path)
    if before:
        with h5py.File(path, "r+") as file:
            group = file["uns/headrace/digests"]
            del group["tables"]
            group["text"][()] = f"{digests(file, tables=False)['text']:08x}"
    assert hr.verify_h5ad(path).problems == ()
    with h5py.File(path, "r+") as file:
        entry = file["uns/mine/table"]
        one = entry[row]
        one[column] = "other" if column in ("text", "short") else one[column] + 1
        entry[row] = one
    assert hr.verify_h5ad(path).problems == (
        f"the {'text' if before else 'tables'} of the file are not what was written",
    )


@pytest.mark.parametrize("shape", [(0,), (), (2, 3)])
def test_a_table_of_any_shape_is_as_it_was_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    table = np.zeros(shape, dtype=[("text", "U3"), ("n", "i4")])
    hr.Plan(ArraySource(np.eye(50, 20), held().obs, held().var, uns={"table": table})).write_h5ad(tmp_path / "x.h5ad")
    assert hr.verify_h5ad(tmp_path / "x.h5ad").problems == ()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (np.array([("a",), (None,)], dtype=[("x", object)]), r"uns\['table'\] has None in column 'x'"),
        (np.array([(1,)], dtype=[("x", object)]), "has 1 in column 'x'"),
        (np.array([(("q", 1),)], dtype=[("x", [("u", "U3"), ("n", "i4")])]), "is a table of"),
        (np.zeros(1, dtype=[("x", "M8[s]")]), "is a table of"),
    ],
    ids=["missing", "numbers as objects", "a table within", "times"],
)
def test_tables_that_no_file_holds_are_refused_before_the_run(table: Any, said: str, tmp_path: Path) -> None:
    plan = hr.Plan(ArraySource(np.eye(50, 20), held().obs, held().var, uns={"table": table}))
    events: list[Any] = []
    with pytest.raises(hr.OutputError, match=said):
        plan.write_h5ad(tmp_path / "x.h5ad", on_event=events.append)
    assert not events
    assert not list(tmp_path.iterdir())


def test_a_dense_matrix(tmp_path: Path) -> None:
    path = tmp_path / "x.h5ad"
    hr.Plan(held(), [hr.NormalizeTotal(10), hr.Log1p(), hr.Scale()]).write_h5ad(path)
    assert hr.verify_h5ad(path).problems == ()
    with h5py.File(path, "r+") as file:
        file["X"][49, 19] += 1
    assert hr.verify_h5ad(path).problems == ("X: the sums of its rows are not those of what was written",)


def test_the_digest_of_rows_does_not_depend_on_chunks() -> None:
    X = sparse.random(1000, 300, density=0.1, format="csr", dtype=np.float32, random_state=0)
    X = sparse.csr_array(X)
    values = set()
    for cuts in ([0, 1000], [0, 1, 999, 1000], list(range(0, 1001, 8))):
        digest = RowDigest()
        for start, stop in pairwise(cuts):
            digest.update(X[start:stop])
        values.add(digest.value)
    assert len(values) == 1
    expected = X.toarray().astype(np.float64).sum(axis=1)
    for marks in (row_checksums(X), row_checksums(X.toarray())):
        np.testing.assert_allclose(marks[:, 0].copy().view(np.float64), expected, rtol=1e-12)
        np.testing.assert_array_equal(marks[:, 1], row_checksums(X)[:, 1])


def test_flat_memory(tmp_path: Path) -> None:
    """Twelve million values take no more than two million do."""
    peaks = []
    for n in (2_000, 12_000):
        X = sparse.csr_array(np.ones((n, 1000), dtype=np.float32))
        obs, var = pd.DataFrame(index=[str(i) for i in range(n)]), pd.DataFrame(index=[str(i) for i in range(1000)])
        hr.Plan(ArraySource(X, obs, var)).write_h5ad(tmp_path / f"{n}.h5ad")
        code = (
            "import sys, headrace as hr; assert hr.verify_h5ad(sys.argv[1]).problems == ()\n"
            "print(next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"{n}.h5ad")], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1e3)
    assert peaks[1] < peaks[0] + 30, peaks


def test_the_mark_of_texts_does_not_depend_on_how_they_are_cut() -> None:
    texts = ["", "a", "", "", "bc", ""]
    whole = text_checksum(texts)
    for cut in range(len(texts) + 1):
        assert text_checksum(texts[cut:], text_checksum(texts[:cut])) == whole
    assert len({text_checksum(each) for each in ([], [""], ["", ""], ["a"], ["a", ""], ["", "a"])}) == 6


def test_numeric_digests_of_before_are_read(good: Path, tmp_path: Path) -> None:
    """Files of headrace before 0.2 have their digests as numbers, of which R warns."""
    path = tmp_path / "older.h5ad"
    shutil.copy(good, path)
    number = {"encoding-type": "numeric-scalar", "encoding-version": "0.2.0"}
    with h5py.File(path, "r+") as file:
        group = file["uns/headrace/digests"]
        names: list[str] = []
        group.visititems(lambda name, each: names.append(name) if isinstance(each, h5py.Dataset) else None)
        assert "rows/X" in names
        for name in names:
            value = int(group[name].asstr()[()], 16)
            del group[name]
            group.create_dataset(name, data=np.uint64(value)).attrs.update(number)
    assert hr.verify_h5ad(path).problems == ()
    with h5py.File(path, "r+") as file:
        digest = file["uns/headrace/digests/rows/X"]
        digest[()] = digest[()] ^ np.uint64(1)
    assert any("X" in problem for problem in hr.verify_h5ad(path).problems)

"""`hr.open_h5ad`: the same cells however they are stored; what is odd or broken is named."""

from __future__ import annotations

import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.chunk import Holds
from headrace.cli import main
from headrace.errors import CountsError, InputError, OutputError, SourceError
from headrace.sources.arrays import ArraySource
from headrace.sources.h5ad.matrix import Csr, Dense
from headrace.sources.h5ad.transposed import Csc
from tests.laws.registry import assert_same
from tests.laws.registry import source as simulated

HELD = simulated()
N_OBS, N_VARS = HELD.X.shape
STEPS = [hr.SaveLayer("counts"), hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=30)]

STORED: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": 1000},
    "chunked small": {"chunks": 7},
    "gzip": {"chunks": 500, "compression": "gzip"},
    "gzip shuffle": {"chunks": 333, "compression": "gzip", "shuffle": True},
    "gzip shuffle fletcher": {"chunks": 333, "compression": "gzip", "shuffle": True, "fletcher32": True},
    "fletcher": {"chunks": 100, "fletcher32": True},
    "shuffle": {"chunks": 100, "shuffle": True},
    "one chunk": {"chunks": 10**6, "compression": "gzip"},
    "lzf": {"chunks": 256, "compression": "lzf"},
}
NUMBERS = [
    ("<f4", "<i8"),
    ("<f8", ">i8"),
    ("<f2", "<i4"),
    (">f4", ">i4"),
    (">i4", "<u4"),
    ("<i2", "<i2"),
    ("<f8", "|u1"),
    ("<i8", "<u8"),
    ("<u8", "<u2"),
]


def put(group: h5py.Group, name: str, values: np.ndarray, stored: dict[str, Any]) -> h5py.Dataset:
    settings = dict(stored)
    if "chunks" in settings:
        rows = max(1, min(settings["chunks"], len(values)))
        settings["chunks"] = (rows,) if values.ndim == 1 else (max(1, rows % 64), max(1, values.shape[1] // 3))
        settings["maxshape"] = (None, *values.shape[1:])
    return group.create_dataset(name, data=values, **settings)


def put_matrix(
    file: h5py.File, name: str, X: Any, stored: dict[str, Any], numbers: Any = "f4", index: Any = "i4"
) -> None:
    if sparse.issparse(X):
        group = file.create_group(name)
        group.attrs.update({"encoding-type": f"{X.format}_matrix", "encoding-version": "0.1.0", "shape": X.shape})
        put(group, "data", X.data.astype(numbers), stored)
        put(group, "indices", X.indices.astype(index), stored)
        put(group, "indptr", X.indptr.astype("i8" if np.dtype(index).itemsize == 1 else index), {})
    else:
        put(file, name, np.asarray(X).astype(numbers), stored).attrs.update({"encoding-type": "array"})


def put_table(file: h5py.File, name: str, table: pd.DataFrame) -> None:
    anndata.io.write_elem(file, name, table)


def write(
    path: Path, X: Any, obs: pd.DataFrame, var: pd.DataFrame, stored: dict[str, Any] | None = None, **how: Any
) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        put_matrix(file, "X", X, stored or {}, **how)
        put_table(file, "obs", obs)
        put_table(file, "var", var)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain file with the cells of HELD; not to be changed."""
    return write(tmp_path_factory.mktemp("small") / "small.h5ad", HELD.X, HELD.obs, HELD.var)


@pytest.fixture
def broken(small: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    path = tmp_path / "broken.h5ad"
    path.write_bytes(small.read_bytes())
    return path


def read(source: Any, nnz: int) -> tuple[Any, pd.DataFrame]:
    """All cells, in chunks of about `nnz` non-zeros."""
    refs = source.refs(nnz)
    chunks = list(source.read(refs))
    assert [(ref.start, ref.stop) for ref in refs] == list(
        zip(np.cumsum([0, *(c.n_obs for c in chunks)])[:-1], np.cumsum([c.n_obs for c in chunks]), strict=True)
    )
    for chunk in chunks:
        assert chunk.X.dtype == np.float32
        assert chunk.X.indices.dtype == chunk.X.indptr.dtype == np.int32
        assert chunk.X.has_canonical_format
        assert chunk.X.data.all()
        assert dict(chunk.obs.dtypes) == dict(source.spec.obs.dtypes)
    X = sparse.csr_array(sparse.vstack([chunk.X for chunk in chunks], format="csr"))
    return X, pd.concat([chunk.obs for chunk in chunks])


def result(source: Any) -> dict[str, Any]:
    adata = hr.Plan(source, STEPS).to_anndata()
    del adata.uns["headrace"]
    return {"X": adata.X, "counts": adata.layers["counts"], "obs": adata.obs, "var": adata.var, "uns": dict(adata.uns)}


FORMS: dict[str, Any] = {
    "csr": sparse.csr_array,
    "csc": sparse.csc_array,
    "dense": lambda X: X.toarray(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stored", STORED)
def test_every_storage_gives_the_same_cells(form: str, stored: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", FORMS[form](HELD.X), HELD.obs, HELD.var, STORED[stored])
    source = hr.open_h5ad(path)
    assert isinstance(source._matrix, {"csr": Csr, "csc": Csc, "dense": Dense}[form])
    for nnz in (1, 500, 10**9):
        X, obs = read(source, nnz)
        assert_same(X, HELD.X)
        assert_same(obs, HELD.obs)
    assert_same(source.spec.var, HELD.var)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("numbers", "index"), NUMBERS)
def test_every_type_of_number_gives_the_same_cells(form: str, numbers: str, index: str, tmp_path: Path) -> None:
    for stored in ("contiguous", "gzip shuffle"):
        path = write(
            tmp_path / f"{stored}.h5ad",
            FORMS[form](HELD.X.astype(np.int32)),
            HELD.obs,
            HELD.var,
            STORED[stored],
            numbers=numbers,
            index=index,
        )
        X, _ = read(hr.open_h5ad(path), 700)
        assert_same(X, HELD.X)


@pytest.mark.parametrize("form", FORMS)
def test_a_plan_gives_the_bytes_of_the_cells_in_memory(form: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", FORMS[form](HELD.X), HELD.obs, HELD.var, STORED["gzip"])
    assert_same(result(hr.open_h5ad(path)), result(ArraySource(HELD.X, HELD.obs, HELD.var)))


def test_booleans_are_ones(tmp_path: Path) -> None:
    X = sparse.csr_array(HELD.X > 0)
    for form in FORMS.values():
        path = write(tmp_path / "x.h5ad", form(X), HELD.obs, HELD.var, {}, numbers=bool)
        assert_same(read(hr.open_h5ad(path), 100)[0], sparse.csr_array(X, dtype=np.float32))


def test_unsorted_columns_are_sorted_and_stored_zeros_dropped(tmp_path: Path) -> None:
    X = HELD.X.copy()
    rng = np.random.default_rng(3)
    for row in range(N_OBS):
        a, b = X.indptr[row], X.indptr[row + 1]
        order = rng.permutation(b - a)
        X.indices[a:b], X.data[a:b] = X.indices[a:b][order], X.data[a:b][order]
    X.data[::5] = 0
    expected = ArraySource(sparse.csr_array((X.data, X.indices, X.indptr), shape=X.shape), HELD.obs, HELD.var).X
    path = write(
        tmp_path / "x.h5ad", sparse.csr_array((X.data, X.indices, X.indptr), shape=X.shape), HELD.obs, HELD.var
    )
    assert_same(read(hr.open_h5ad(path), 300)[0], expected)
    unsorted = sparse.csc_array(HELD.X)
    unsorted.indices[:2] = unsorted.indices[:2][::-1]
    unsorted.data[:2] = unsorted.data[:2][::-1]
    path = write(tmp_path / "csc.h5ad", unsorted, HELD.obs, HELD.var)
    assert_same(read(hr.open_h5ad(path), 300)[0], HELD.X)


def test_tiles_that_were_never_written_are_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        X = file.create_dataset("X", (N_OBS, N_VARS), dtype="f4", chunks=(16, 16))
        X[32:48, :16] = 3
        put_table(file, "obs", HELD.obs)
        put_table(file, "var", HELD.var)
        expected = X[:]
    source = hr.open_h5ad(tmp_path / "x.h5ad")
    assert_same(read(source, 64)[0], sparse.csr_array(expected))


def test_a_dataset_without_storage_is_its_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        file.create_dataset("X", (N_OBS, N_VARS), dtype="f4", fillvalue=2)
        put_table(file, "obs", HELD.obs)
        put_table(file, "var", HELD.var)
    assert (read(hr.open_h5ad(tmp_path / "x.h5ad"), 500)[0].toarray() == 2).all()


def test_a_tile_that_a_filter_did_not_help_is_read(tmp_path: Path) -> None:
    """HDF5 notes in a mask that a tile was stored without gzip."""
    X = HELD.X
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        put_matrix(file, "X", X, {"chunks": 100, "compression": "gzip", "shuffle": True})
        data = file["X/data"]
        data.id.write_direct_chunk((100,), X.data[100:200].tobytes(), filter_mask=0b11)
        put_table(file, "obs", HELD.obs)
        put_table(file, "var", HELD.var)
    assert_same(read(hr.open_h5ad(tmp_path / "x.h5ad"), 500)[0], X)


def test_a_user_block_shifts_nothing(small: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5ad", "w", userblock_size=512) as file:
        put_matrix(file, "X", HELD.X, STORED["gzip"])
        put_table(file, "obs", HELD.obs)
        put_table(file, "var", HELD.var)
    assert_same(read(hr.open_h5ad(tmp_path / "x.h5ad"), 500)[0], HELD.X)


def test_soft_links_within_the_file_are_followed(broken: Path) -> None:
    with h5py.File(broken, "a") as file:
        file.move("X", "elsewhere")
        file["X"] = h5py.SoftLink("/elsewhere")
        file.move("obs/batch", "elsewhere/batch")
        file["obs/batch"] = h5py.SoftLink("/elsewhere/batch")
    X, obs = read(hr.open_h5ad(broken), 500)
    assert_same(X, HELD.X)
    assert_same(obs, HELD.obs)


# ------------------------------------------------------------------------------------------------- which matrix
@pytest.fixture
def cellxgene(tmp_path: Path) -> Path:
    """As CELLxGENE publishes: normalised X, counts in raw.X with more genes; a layer of counts too."""
    adata = anndata.AnnData(sparse.csr_matrix(HELD.X), HELD.obs.copy(), HELD.var.copy())
    adata.raw = adata.copy()
    adata = adata[:, :60].copy()
    adata.layers["counts"] = adata.X.copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some cells have zero counts")
        sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.write_h5ad(tmp_path / "cellxgene.h5ad")
    return tmp_path / "cellxgene.h5ad"


def test_normalised_x_is_refused_and_the_counts_are_named(cellxgene: Path) -> None:
    with pytest.raises(CountsError) as error:
        hr.open_h5ad(cellxgene)
    assert "X of" in str(error.value)
    assert "raw/X has: ask for raw=True" in str(error.value)
    assert "layers/counts has: ask for layer='counts'" in str(error.value)
    assert "holds='logged'" in str(error.value)


def test_raw_has_its_own_genes(cellxgene: Path) -> None:
    source = hr.open_h5ad(cellxgene, raw=True)
    assert_same(read(source, 300)[0], HELD.X)
    assert list(source.spec.var.index) == list(HELD.var.index)
    assert_same(read(hr.open_h5ad(cellxgene, layer="counts"), 300)[0], sparse.csr_array(HELD.X[:, :60]))


def test_x_that_is_said_to_be_logged_is_not_logged_twice(cellxgene: Path) -> None:
    source = hr.open_h5ad(cellxgene, holds="logged")
    assert source.spec.holds is Holds.LOGGED
    with pytest.raises(hr.PlanError):
        hr.Plan(source, [hr.NormalizeTotal(1e4), hr.Log1p()])
    found = hr.Plan(source, [hr.HighlyVariableGenes(n_top_genes=20)]).to_anndata().var
    adata = anndata.read_h5ad(cellxgene)
    sc.pp.highly_variable_genes(adata, n_top_genes=20)
    assert found["highly_variable"].tolist() == adata.var["highly_variable"].tolist()
    np.testing.assert_allclose(found["means"], adata.var["means"], rtol=1e-5)


def test_the_base_of_logarithms_is_taken_from_the_file(small: Path, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(small)
    sc.pp.log1p(adata, base=2)
    adata.write_h5ad(tmp_path / "x.h5ad")
    assert hr.open_h5ad(tmp_path / "x.h5ad", holds="logged").spec.uns["log1p"] == {"base": 2.0}


def test_values_that_are_no_counts_further_on_are_found_when_read(broken: Path) -> None:
    with h5py.File(broken, "a") as file:
        file["X/data"][-1] = 0.5
    assert HELD.X.nnz > 4096
    plan = hr.Plan(hr.open_h5ad(broken), [hr.HighlyVariableGenes(30, flavor="seurat_v3")])
    with pytest.raises(CountsError, match=r"0.5 in cell 'c148'"):
        plan.to_anndata()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (dict(layer="count"), "did you mean 'counts'"),
        (dict(layer="counts", raw=True), "give one of them"),
        (dict(holds="log"), "logged"),
        (dict(raw=True, var_index="feature_nam"), "feature_name"),
        (dict(scratch="/nowhere/at/all"), "no folder"),
    ],
)
def test_what_is_asked_wrongly(asked: dict[str, Any], says: str, cellxgene: Path) -> None:
    with pytest.raises(InputError, match=says):
        hr.open_h5ad(cellxgene, **asked)


def test_a_file_without_raw_says_what_it_has(small: Path) -> None:
    with pytest.raises(InputError, match=r"has no raw/X; it has X \(the default\)"):
        hr.open_h5ad(small, raw=True)


# --------------------------------------------------------------------------------------------------- obs and var
def wide_obs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = N_OBS
    return pd.DataFrame(
        {
            "cat": pd.Categorical(rng.choice(["b", "a", "c"], n), categories=["c", "a", "unused", "b"]),
            "ordered": pd.Categorical(rng.choice([2, 3], n), categories=[3, 2], ordered=True),
            "flags": pd.Categorical(rng.choice([True, False], n)),
            "holes": pd.Categorical.from_codes(rng.integers(-1, 2, n), ["x", "y"]),
            "int8": rng.integers(-9, 9, n).astype(np.int8),
            "uint64": rng.integers(0, 9, n).astype(np.uint64),
            "float32": rng.random(n).astype(np.float32),
            "nan": np.where(rng.random(n) < 0.5, np.nan, 1.0),
            "bool": rng.random(n) < 0.5,
            "Int32": pd.arrays.IntegerArray(rng.integers(0, 9, n).astype(np.int32), rng.random(n) < 0.3),
            "boolean": pd.arrays.BooleanArray(rng.random(n) < 0.5, rng.random(n) < 0.3),
            "text": np.array([f"ä{i}" for i in range(n)], dtype=object),
        },
        index=pd.Index([f"cell {i}" for i in range(n)], name="barcode"),
    )


def test_every_column_is_what_anndata_reads(tmp_path: Path) -> None:
    obs = wide_obs()
    path = write(tmp_path / "x.h5ad", HELD.X, obs, HELD.var)
    expected = anndata.read_h5ad(path).obs
    source = hr.open_h5ad(path)
    for nnz in (50, 10**9):
        got = read(source, nnz)[1]
        assert got.index.name == expected.index.name == "barcode"
        pd.testing.assert_frame_equal(got, expected)
    assert list(source.spec.obs["cat"].cat.categories) == ["c", "a", "unused", "b"]
    assert source.value_counts("cat") == {k: int((obs["cat"] == k).sum()) for k in source.value_counts("cat")}
    assert sum(source.value_counts("text").values()) == N_OBS
    assert source.value_counts("nothing") == {}


def test_text_with_holes_and_names_as_anndata_0_13_writes_them(broken: Path) -> None:
    text = pd.array(["a", None, *["b"] * (N_OBS - 2)], dtype="string")
    with h5py.File(broken, "a") as file, anndata.settings.override(allow_write_nullable_strings=True):
        anndata.io.write_elem(file["obs"], "text", text)
        file["obs"].attrs["column-order"] = ["text", "batch"]
        names = pd.array([f"n{i}" for i in range(N_OBS)], dtype="string")
        del file["obs/_index"]
        anndata.io.write_elem(file["obs"], "_index", names)
        assert file["obs/_index"].attrs["encoding-type"] == "nullable-string-array"
    _, obs = read(hr.open_h5ad(broken), 500)
    assert obs.index.tolist() == list(names)
    assert obs["text"].isna().tolist() == [i == 1 for i in range(N_OBS)]
    assert obs["text"].tolist()[2] == "b"
    with h5py.File(broken, "a") as file:
        file["obs/_index/mask"][70] = True
    with pytest.raises(SourceError, match="no name for row 70"):
        read(hr.open_h5ad(broken), 500)


def test_categories_as_anndata_0_7_wrote_them(broken: Path) -> None:
    with h5py.File(broken, "a") as file:
        obs = file["obs"]
        codes, categories = obs["batch/codes"][:], obs["batch/categories"][:]
        del obs["batch"]
        kept = obs.create_group("__categories").create_dataset("batch", data=categories, dtype=h5py.string_dtype())
        kept.attrs["ordered"] = False
        obs.create_dataset("batch", data=codes).attrs["categories"] = kept.ref
        obs.attrs["encoding-version"] = "0.1.0"
        del file["X"].attrs["encoding-type"]
        file["X"].attrs["h5sparse_format"] = "csr"
    X, obs_read = read(hr.open_h5ad(broken), 500)
    assert_same(X, HELD.X)
    assert_same(obs_read, HELD.obs)


def test_names_of_cells_may_come_twice(tmp_path: Path) -> None:
    obs = HELD.obs.set_axis(["same"] * N_OBS)
    path = write(tmp_path / "x.h5ad", HELD.X, obs, HELD.var)
    assert read(hr.open_h5ad(path), 500)[1].index.tolist() == ["same"] * N_OBS


def test_names_of_genes_may_not_come_twice(tmp_path: Path) -> None:
    var = HELD.var.assign(gene_ids=HELD.var.index).set_axis(["same"] * N_VARS)
    path = write(tmp_path / "x.h5ad", HELD.X, HELD.obs, var)
    with pytest.raises(InputError, match=r"'same' more than once.*var_index='gene_ids'"):
        hr.open_h5ad(path)
    got = hr.open_h5ad(path, var_index="gene_ids").spec.var
    assert got.index.tolist() == HELD.var.index.tolist()
    assert got.index.name == "gene_ids"
    assert "gene_ids" not in got
    assert got["var_names"].tolist() == ["same"] * N_VARS
    path = write(tmp_path / "y.h5ad", HELD.X, HELD.obs, var.drop(columns=["gene_ids"]))
    with pytest.raises(InputError, match="var_names_make_unique"):
        hr.open_h5ad(path)


def test_many_cells_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.sources.h5ad import table as h5table

    path = write(tmp_path / "x.h5ad", HELD.X, wide_obs(), HELD.var)
    whole = read(hr.open_h5ad(path), 10**9)[1]
    monkeypatch.setattr(h5table, "BLOCK", 16)
    pd.testing.assert_frame_equal(read(hr.open_h5ad(path), 900)[1], whole)
    pd.testing.assert_frame_equal(read(hr.open_h5ad(path), 10**9)[1], whole)
    assert hr.open_h5ad(path).value_counts("cat") == {k: int(n) for k, n in whole["cat"].value_counts().items() if n}


# ----------------------------------------------------------------------------------------------- what is broken
def spoil(name: str, at: int, value: Any) -> Any:
    def change(file: h5py.File) -> None:
        file[name][at] = value

    return change


def replaced(name: str, make: Any) -> Any:
    def change(file: h5py.File) -> None:
        values, attributes = file[name][:], dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=make(values)).attrs.update(attributes)

    return change


def cell_of(at: int) -> str:
    return f"c{int(np.searchsorted(HELD.X.indptr, at, side='right')) - 1}"


def compound(file: h5py.File) -> None:
    del file["obs"]
    file.create_dataset("obs", data=np.zeros(N_OBS, dtype=[("index", "S3"), ("n", "i4")]))


def external(name: str) -> Any:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = h5py.ExternalLink("/somewhere/else.h5ad", "/" + name)

    return change


def virtual(file: h5py.File) -> None:
    del file["X/data"]
    layout = h5py.VirtualLayout((HELD.X.nnz,), "f4")
    layout[:] = h5py.VirtualSource("else.h5", "data", (HELD.X.nnz,))
    file["X"].create_virtual_dataset("data", layout)


def outside(file: h5py.File) -> None:
    del file["X/data"]
    file["X"].create_dataset("data", (HELD.X.nnz,), "f4", external=[("data.bin", 0, h5py.h5f.UNLIMITED)])


def removed(*names: str) -> Any:
    def change(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return change


def shape(file: h5py.File) -> None:
    file["X"].attrs["shape"] = (N_OBS, N_VARS + 1)


def column(file: h5py.File) -> None:
    file["obs/odd"] = np.zeros(3)
    file["obs"].attrs["column-order"] = ["odd"]


def two_columns(file: h5py.File) -> None:
    file["obs/odd"] = np.zeros((N_OBS, 2))
    file["obs"].attrs["column-order"] = ["odd"]


def coded(file: h5py.File) -> None:
    file["obs/batch/codes"][4] = 9


AT = 400
BROKEN: dict[str, tuple[Any, str]] = {
    "nan": (spoil("X/data", 4200, np.nan), f"cell '{cell_of(4200)}' has nan for gene 'g"),
    "inf": (spoil("X/data", 4200, np.inf), f"cell '{cell_of(4200)}' has inf for gene 'g"),
    "index too large": (
        spoil("X/indices", AT, N_VARS),
        f"cell '{cell_of(AT)}' has a value for a gene that is not there",
    ),
    "index negative": (spoil("X/indices", AT, -1), f"cell '{cell_of(AT)}' has a value for a gene that is not there"),
    "index twice": (
        spoil("X/indices", 1, HELD.X.indices[0]),
        f"cell 'c0' has gene 'g{HELD.X.indices[0]}' more than once",
    ),
    "indptr back": (spoil("X/indptr", 10, 10**6), "indptr goes back at 'c10'"),
    "indptr short": (replaced("X/indptr", lambda v: v[:-1]), f"indptr has {N_OBS} entries, not {N_OBS + 1}"),
    "data short": (replaced("X/data", lambda v: v[:-1]), f"but there are {HELD.X.nnz - 1} values"),
    "data text": (replaced("X/data", lambda v: v.astype("S1")), "holds no numbers"),
    "float indices": (replaced("X/indices", lambda v: v.astype("f4")), "indices of type float32"),
    "no indices": (removed("X/indices"), "X of .* has no indices"),
    "no X": (removed("X"), "has no X"),
    "no obs": (removed("obs"), "has no obs: it is no .h5ad file"),
    "no index": (removed("obs/_index"), "the index of obs .* is not there"),
    "shape": (shape, f"is {N_OBS} x {N_VARS + 1}, but obs and var have {N_OBS} and {N_VARS} rows"),
    "column": (column, f"column 'odd' has 3 rows, the index {N_OBS}"),
    "two columns": (two_columns, "column 'odd' of obs .* has 2 dimensions"),
    "code": (coded, "has code 9, but 3 categories"),
    "compound": (compound, "before 0.7"),
    "external X": (external("X"), "/X of .* is a link to another file"),
    "external column": (external("obs/batch"), "/obs/batch of .* is a link to another file"),
    "external data": (external("X/data"), "/X/data of .* is a link to another file"),
    "virtual": (virtual, "/X/data of .* is a virtual dataset"),
    "external storage": (outside, "/X/data of .* has its numbers in another file"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_named(what: str, broken: Path) -> None:
    change, says = BROKEN[what]
    with h5py.File(broken, "a") as file:
        change(file)
    with pytest.raises((SourceError, InputError), match=says):
        read(hr.open_h5ad(broken), 700)


@pytest.mark.parametrize("form", ["csc", "dense"])
def test_what_is_broken_is_named_in_other_forms(form: str, tmp_path: Path) -> None:
    X = sparse.csc_array(HELD.X)
    row, col = int(X.indices[4200]), int(np.searchsorted(X.indptr, 4200, side="right")) - 1
    path = write(tmp_path / "x.h5ad", FORMS[form](X), HELD.obs, HELD.var)
    with h5py.File(path, "a") as file:
        if form == "csc":
            file["X/data"][4200] = np.nan
        else:
            file["X"][row, col] = np.nan
    with pytest.raises(SourceError, match=f"cell 'c{row}' has nan for gene 'g{col}'"):
        read(hr.open_h5ad(path), 700)


def test_a_csc_index_out_of_range_or_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", sparse.csc_array(HELD.X), HELD.obs, HELD.var)
    first = sparse.csc_array(HELD.X).indices[:2]
    for at, value, says in [
        (0, N_OBS, "gene 'g0' has a value for a cell that is not there"),
        (0, first[1], "more than once"),
    ]:
        with h5py.File(path, "a") as file:
            file["X/indices"][at] = value
        with pytest.raises(SourceError, match=says):
            read(hr.open_h5ad(path), 700)


@pytest.mark.parametrize("form", FORMS)
def test_counts_that_float32_cannot_hold(form: str, tmp_path: Path) -> None:
    X = HELD.X.astype(np.float64)
    X.data[9] = 2**24 + 1
    cell, gene = cell_of(9), X.indices[9]
    for numbers in ("f8", "i8", "u4"):
        path = write(tmp_path / f"{numbers}.h5ad", FORMS[form](X), HELD.obs, HELD.var, {}, numbers=numbers)
        with pytest.raises(CountsError, match=f"cell '{cell}' has 16777217 for gene 'g{gene}'"):
            read(hr.open_h5ad(path), 700)
        rounded = read(hr.open_h5ad(path, holds="normalized"), 700)[0]
        assert rounded.data[9] == 2**24
    X.data[9] = 2**24 + 2
    path = write(tmp_path / "x.h5ad", FORMS[form](X), HELD.obs, HELD.var, {}, numbers="i8")
    assert read(hr.open_h5ad(path), 700)[0].data[9] == 2**24 + 2


def test_float64_is_rounded_to_float32(tmp_path: Path) -> None:
    X = HELD.X.astype(np.float64) / 3
    path = write(tmp_path / "x.h5ad", X, HELD.obs, HELD.var, {}, numbers="f8")
    assert_same(read(hr.open_h5ad(path, holds="normalized"), 700)[0], sparse.csr_array(X, dtype=np.float32))
    X.data[0] = 1e300
    path = write(tmp_path / "x.h5ad", X, HELD.obs, HELD.var, {}, numbers="f8")
    with pytest.raises(SourceError, match="within the range of float32"):
        read(hr.open_h5ad(path, holds="normalized"), 700)


def test_what_is_no_h5ad(tmp_path: Path, small: Path) -> None:
    text, cut, folder = tmp_path / "text.h5ad", tmp_path / "cut.h5ad", tmp_path / "folder.h5ad"
    text.write_text("no HDF5")
    cut.write_bytes(small.read_bytes()[:-2000])
    folder.mkdir()
    for path, says in [
        (text, "no HDF5 file"),
        (cut, "is cut off"),
        (folder, "is a folder"),
        (tmp_path / "missing.h5ad", "there is no file"),
        ("s3://bucket/x.h5ad", "is no path"),
    ]:
        with pytest.raises((InputError, SourceError), match=says):
            hr.open_h5ad(path)


@pytest.mark.parametrize(("n_obs", "n_vars"), [(0, 3), (3, 0)])
def test_nothing_to_read(n_obs: int, n_vars: int, tmp_path: Path) -> None:
    obs, var = pd.DataFrame(index=list("abc")[:n_obs]), pd.DataFrame(index=list("xyz")[:n_vars])
    path = write(tmp_path / "x.h5ad", sparse.csr_array((n_obs, n_vars), dtype=np.float32), obs, var)
    with pytest.raises(InputError, match="there is nothing to do"):
        hr.open_h5ad(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stored", ["contiguous", "gzip"])
def test_a_matrix_without_values(form: str, stored: str, tmp_path: Path) -> None:
    X = sparse.csr_array((N_OBS, N_VARS), dtype=np.float32)
    path = write(tmp_path / "x.h5ad", FORMS[form](X), HELD.obs, HELD.var, STORED[stored])
    got = hr.Plan(hr.open_h5ad(path), [hr.NormalizeTotal(1e4)]).to_anndata()
    assert got.X.nnz == 0
    assert got.shape == (N_OBS, N_VARS)


def test_filters_of_plugins_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "shape": HELD.X.shape})
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((100,))
        settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((HELD.X.nnz,))
        h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_FLOAT, space, settings)
        group["indices"], group["indptr"] = HELD.X.indices, HELD.X.indptr
        put_table(file, "obs", HELD.obs)
        put_table(file, "var", HELD.var)
    with pytest.raises(SourceError, match=r"/X/data of .* compressed by filter 32015 \(zstd\)"):
        hr.open_h5ad(tmp_path / "x.h5ad")


@pytest.mark.parametrize("stored", ["fletcher", "gzip shuffle fletcher", "gzip"])
def test_flipped_bits_are_noticed(stored: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", HELD.X, HELD.obs, HELD.var, STORED[stored])
    with h5py.File(path) as file:
        offset = file["X/data"].id.get_chunk_info(3).byte_offset + 10
    content = bytearray(path.read_bytes())
    content[offset] ^= 255
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"/X/data of .*damaged"):
        read(hr.open_h5ad(path), 700)


def test_a_file_that_changes_is_not_read_on(broken: Path) -> None:
    source = hr.open_h5ad(broken)
    refs = source.refs(500)
    os.utime(broken, ns=(1, 1))
    with pytest.raises(SourceError, match="has changed since it was opened"):
        list(source.read(refs))
    with pytest.raises(SourceError, match="has changed since it was opened"):
        pickle.loads(pickle.dumps(source)).spec  # noqa: B018


# ------------------------------------------------------------------------------------------------ as a source
def test_it_pickles_small_and_reads_elsewhere(small: Path) -> None:
    source = hr.open_h5ad(small)
    source.refs(500)
    pickled = pickle.dumps(source)
    assert len(pickled) < 1000
    assert_same(read(pickle.loads(pickled), 500)[0], HELD.X)


@pytest.mark.parametrize("form", FORMS)
def test_several_threads_may_read(form: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5ad", FORMS[form](HELD.X), HELD.obs, HELD.var, STORED["gzip"])
    source = hr.open_h5ad(path)
    refs = source.refs(300)
    with ThreadPoolExecutor(4) as pool:
        chunks = [chunk for (chunk,) in pool.map(lambda ref: list(source.read([ref])), refs)]
    assert_same(sparse.csr_array(sparse.vstack([chunk.X for chunk in chunks], format="csr")), HELD.X)
    assert_same(pd.concat([chunk.obs for chunk in chunks]), HELD.obs)


def test_any_refs_may_be_read_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.sources.h5ad import transposed
    from headrace.sources.ranges import CellRange

    monkeypatch.setattr(transposed, "BAND_NNZ", 400)
    monkeypatch.setattr(transposed, "BLOCK_NNZ", 37)
    monkeypatch.setattr(transposed, "BUFFERS", 0)
    source = hr.open_h5ad(write(tmp_path / "x.h5ad", sparse.csc_array(HELD.X), HELD.obs, HELD.var, STORED["gzip"]))
    assert len(source._matrix._bands) > 10
    assert_same(read(source, 10**9)[0], HELD.X)
    assert_same(read(source, 150)[0], HELD.X)
    for start, stop in [(100, 150), (0, 150), (3, 4), (60, 90)]:
        (chunk,) = source.read([CellRange(start, stop)])
        assert_same(chunk.X, sparse.csr_array(HELD.X[start:stop]))


def test_the_temporary_file_of_csc_is_never_seen_and_needs_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = write(tmp_path / "x.h5ad", sparse.csc_array(HELD.X), HELD.obs, HELD.var)
    source = hr.open_h5ad(path, scratch=scratch)
    chunks = source.read(source.refs(500))
    next(chunks)
    assert list(scratch.iterdir()) == []
    before = len(os.listdir("/proc/self/fd"))
    chunks.close()
    del chunks, source
    assert len(os.listdir("/proc/self/fd")) < before
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("usage", (), {"free": 10}))
    with pytest.raises(OutputError, match=f"needs about .* in {scratch}"):
        read(hr.open_h5ad(path, scratch=scratch), 500)
    monkeypatch.undo()
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space left on device; free some space"):
        read(hr.open_h5ad(path, scratch=scratch), 500)


def test_identity_and_provenance(small: Path, cellxgene: Path) -> None:
    source = hr.open_h5ad(small)
    assert source.identity() == hr.open_h5ad(small).identity()
    assert str(small) in source.identity()
    assert hr.open_h5ad(cellxgene, raw=True).identity() != hr.open_h5ad(cellxgene, layer="counts").identity()
    assert source.provenance() == {"query": {"file": "small.h5ad", "matrix": "X", "holds": "unknown"}}
    assert replace(source).spec.n_obs == N_OBS


def test_what_is_compressed_is_spooled_and_what_is_at_hand_is_not(tmp_path: Path) -> None:
    def spooled(form: str, stored: str) -> bool:
        path = write(tmp_path / "x.h5ad", FORMS[form](HELD.X), HELD.obs, HELD.var, STORED[stored])
        return hr.open_h5ad(path).spooled

    assert not spooled("csr", "contiguous")
    assert not spooled("csr", "fletcher")
    assert spooled("csr", "gzip")
    assert spooled("csr", "lzf")
    assert spooled("dense", "contiguous")
    assert not spooled("csc", "gzip")


def test_it_reads_what_it_writes(small: Path, tmp_path: Path) -> None:
    for compression in (None, "gzip"):
        out = tmp_path / f"{compression}.h5ad"
        hr.Plan(hr.open_h5ad(small), []).write_h5ad(out, compression=compression)
        X, obs = read(hr.open_h5ad(out), 500)
        assert_same(X, HELD.X)
        assert_same(obs, HELD.obs)


def test_explain_and_budget(small: Path) -> None:
    plan = hr.Plan(hr.open_h5ad(small), [hr.HighlyVariableGenes(30, flavor="seurat_v3")])
    text = str(plan.explain())
    assert f"{N_OBS} cells x {N_VARS} genes, {HELD.X.nnz:,} non-zeros" in text
    assert "1 pass over the source" in text
    twice = hr.Plan(hr.open_h5ad(small), [hr.HighlyVariableGenes(30, flavor="pearson_residuals")])
    assert "2 passes over the source, which is at hand" in str(twice.explain())


def test_csc_says_what_disk_it_needs(tmp_path: Path) -> None:
    source = hr.open_h5ad(write(tmp_path / "x.h5ad", sparse.csc_array(HELD.X), HELD.obs, HELD.var))
    assert source.cost().disk == 12 * HELD.X.nnz
    assert "of temporary files, while it runs" in str(hr.Plan(source, []).explain())


# ------------------------------------------------------------------------------------------------ command line
def test_export_of_a_file(cellxgene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.h5ad"
    flags = ["--h5ad", str(cellxgene), "--raw", "--target-sum", "1e4", "--log1p"]
    assert main(["explain", *flags]) == 0
    assert f"{N_OBS} cells x {N_VARS} genes" in capsys.readouterr().out
    assert main(["export", *flags, "--out", str(out)]) == 0
    expected = hr.Plan(ArraySource(HELD.X, HELD.obs, HELD.var), [hr.NormalizeTotal(1e4), hr.Log1p()]).to_anndata()
    assert_same(anndata.read_h5ad(out).X, expected.X)
    assert main(["explain", "--h5ad", str(cellxgene)]) == 1
    assert "ask for --raw" in capsys.readouterr().err
    assert main(["explain", "--h5ad", str(cellxgene), "--layer-in", "counts"]) == 0
    assert main(["explain", "--h5ad", str(cellxgene), "--holds", "logged", "--var-index", "feature_name"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--h5ad x --census y", "give one"),
        ("--h5ad x --organism y --genes any", "--organism, --genes: for a Census"),
        ("--h5ad x --tiledb-config a=b", "--tiledb-config: for a Census"),
        ("--census x --organism y --raw --holds counts", "--raw, --holds: for a file"),
    ],
)
def test_a_census_and_a_file_are_not_mixed(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments.split()]) == 2
    assert says in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ against scanpy
@pytest.fixture(scope="module")
def pbmc(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shared / "data" / "sc" / "human" / "pbmc3k"
    triplets = pd.read_parquet(folder / "X.parquet")
    obs, var = pd.read_parquet(folder / "obs.parquet"), pd.read_parquet(folder / "var.parquet")
    X = sparse.csr_matrix(
        (triplets["count"].to_numpy(np.float32), (triplets["cell"], triplets["gene"])), shape=(len(obs), len(var))
    )
    adata = anndata.AnnData(X, var=var[["feature_id"]].set_axis([f"g{i}" for i in range(len(var))]))
    adata.obs_names = [f"c{i}" for i in range(len(obs))]
    path = tmp_path_factory.mktemp("pbmc") / "pbmc.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_scanpy_on_the_same_file(form: str, pbmc: Path, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(pbmc)[:, ::4].copy() if form == "dense" else anndata.read_h5ad(pbmc)
    adata.X = {"csr": lambda X: X, "csc": lambda X: X.tocsc(), "dense": lambda X: X.toarray()}[form](adata.X)
    path = tmp_path / "x.h5ad"
    adata.write_h5ad(path, compression="gzip")
    expected = anndata.read_h5ad(path)
    expected.X = sparse.csr_matrix(expected.X)
    sc.pp.filter_genes(expected, min_cells=3)
    v3 = sc.pp.highly_variable_genes(expected, flavor="seurat_v3", n_top_genes=1000, inplace=False)
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    sc.pp.highly_variable_genes(expected, n_top_genes=1000)

    steps = [hr.FilterGenes(min_cells=3), hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=1000)]
    got = hr.Plan(hr.open_h5ad(path), steps).to_anndata()
    assert got.obs_names.tolist() == expected.obs_names.tolist()
    assert got.var_names.tolist() == expected.var_names.tolist()
    assert (got.X.indices == expected.X.indices).all()
    np.testing.assert_allclose(got.X.data, expected.X.data, rtol=2e-6)
    assert (got.var["highly_variable"] == expected.var["highly_variable"]).all()
    np.testing.assert_allclose(got.var["dispersions_norm"], expected.var["dispersions_norm"], rtol=1e-4, atol=1e-5)
    steps = [hr.FilterGenes(min_cells=3), hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=1000)]
    var = hr.Plan(hr.open_h5ad(path), steps).var()
    assert (var["highly_variable"].to_numpy() == v3["highly_variable"].to_numpy()).all()


def test_a_plan_does_not_write_over_what_it_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "own.h5ad", HELD.X, HELD.obs, HELD.var)
    (tmp_path / "link.h5ad").symlink_to(path)
    before = path.read_bytes()
    for target in (path, tmp_path / "link.h5ad"):
        with pytest.raises(OutputError, match="is what this plan reads; write to another name"):
            hr.Plan(hr.open_h5ad(path), []).write_h5ad(target, overwrite=True)
    assert path.read_bytes() == before


def test_what_is_no_source_and_no_list_of_steps_is_named(small: Path) -> None:
    with pytest.raises(InputError, match=r"Plan: str is no source; hr\.open_h5ad"):
        hr.Plan(str(small), [])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"steps are a list: \[Log1p"):
        hr.Plan(hr.open_h5ad(small), hr.Log1p())  # type: ignore[arg-type]


def test_names_are_there_for_tab_completion() -> None:
    assert set(hr.__all__) <= set(dir(hr))

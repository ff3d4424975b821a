"""Small files that would take memory without end: refused, with figures."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.sources.h5ad.attributes import attribute
from headrace.sources.h5ad.file import Place
from headrace.sources.h5ad.sizes import Texts, texts_of
from headrace.support import memory
from headrace.support.memory import opening

HUGE = 10**9
CELLS, GENES = 20, 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    names = pd.DataFrame(index=[f"c{i}" for i in range(CELLS)]), pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
    path = tmp_path / "x.h5ad"
    ad.AnnData(sparse.csr_matrix(np.eye(CELLS, GENES, dtype=np.float32)), *names).write_h5ad(path)
    return path


def never_written(group: Any, name: str, n: int, dtype: Any) -> Any:
    """Put a dataset in the place of another: all ones, which are in no file."""
    attributes = dict(group[name].attrs) if name in group else {}
    if name in group:
        del group[name]
    text = h5py.check_string_dtype(np.dtype(dtype)) is not None
    made = group.create_dataset(name, (n,), dtype, chunks=(min(n, 1 << 16),), fillvalue=None if text else 1)
    made.attrs.update(attributes)
    return made


@pytest.mark.parametrize(("form", "lines", "said"), [("csr", CELLS, "10 genes"), ("csc", GENES, "20 cells")])
def test_a_row_or_column_longer_than_there_are_places(form: str, lines: int, said: str, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        never_written(file["X"], "data", HUGE, "f4")
        never_written(file["X"], "indices", HUGE, "i4")
        del file["X/indptr"]
        file["X/indptr"] = np.where(np.arange(lines + 1) < 5, 0, HUGE)
        file["X"].attrs["encoding-type"] = f"{form}_matrix"
    assert path.stat().st_size < 100_000
    with pytest.raises(
        hr.SourceError, match=f"'[cg]4' has 1,000,000,000 values, but there are {said}; the file is broken"
    ):
        hr.open_h5ad(path, holds="counts").cost()


def test_an_indptr_without_end(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        never_written(file["X"], "indptr", HUGE, "i8")
    with pytest.raises(hr.SourceError, match="indptr has 22 entries, not 21"):
        hr.open_h5ad(path).cost()


def test_categories_without_end(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        kind = file["obs"].create_group("kind")
        kind.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
        kind["codes"] = np.zeros(CELLS, np.int8)
        made = never_written(kind, "categories", HUGE, h5py.string_dtype())
        made.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        file["obs"].attrs["column-order"] = np.array(["kind"], dtype=object)
    with pytest.raises(hr.MemoryBudgetError, match=r"'kind' .* has 1,000,000,000 categories: .* takes about [\d,]+ MB"):
        hr.open_h5ad(path).spec  # noqa: B018


def test_genes_without_end(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        never_written(file["var"], "_index", HUGE, h5py.string_dtype())
        file["X"].attrs["shape"] = np.array([CELLS, HUGE])
    with pytest.raises((hr.MemoryBudgetError, hr.SourceError), match="1,?000,?000,?000"):
        hr.open_h5ad(path).spec  # noqa: B018


@pytest.mark.parametrize("what", ["row", "indptr", "barcodes", "features"])
def test_of_cell_ranger(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["shape"] = np.array([GENES, CELLS])
        group["indptr"] = np.where(np.arange(CELLS + 1) < 5, 0, HUGE if what == "row" else 3)
        group["barcodes"] = np.array([f"B{i}-1".encode() for i in range(CELLS)])
        features = group.create_group("features")
        for name in ("id", "name"):
            features[name] = np.array([f"g{i}".encode() for i in range(GENES)])
        features["feature_type"] = np.array([b"Gene Expression"] * GENES)
        features["genome"] = np.array([b"x"] * GENES)
        for name in ("data", "indices"):
            never_written(group, name, HUGE if what == "row" else 3, "i4")
        if what == "indptr":
            never_written(group, "indptr", HUGE, "i8")
        elif what == "barcodes":
            never_written(group, "barcodes", HUGE, h5py.string_dtype())
        elif what == "features":
            never_written(features, "id", HUGE, h5py.string_dtype())
    said = "1,000,000,000 (values|barcodes)" if what != "indptr" else "indptr does not fit 20 barcodes"
    with pytest.raises((hr.SourceError, hr.MemoryBudgetError), match=said):
        hr.open_10x(path)


@pytest.mark.parametrize(
    ("line", "said"), [("10 20 1000000000", "have 1,000,000,000 values"), ("%" * 10**6, "cut off")]
)
def test_a_matrix_of_text(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "matrix.mtx.gz").write_bytes(
        gzip.compress(
            f"%%MatrixMarket matrix coordinate integer general\n{line}\n".encode()
            + b"1 1 1\n" * 1000 * (line[0] != "%")
        )
    )
    (tmp_path / "barcodes.tsv.gz").write_bytes(gzip.compress("".join(f"B{i}-1\n" for i in range(CELLS)).encode()))
    features = "".join(f"g{i}\tg{i}\tGene Expression\n" for i in range(GENES))
    (tmp_path / "features.tsv.gz").write_bytes(gzip.compress(features.encode()))
    with pytest.raises((hr.SourceError, hr.InputError), match=said):
        hr.Plan(hr.open_10x(tmp_path), [hr.FilterGenes(min_cells=1)]).to_anndata()


TEXT = h5py.string_dtype()


def long_texts(group: Any, name: str, n: int, length: int) -> None:
    """Give a table a column of few long texts."""
    texts = np.array([f"{i}" + "x" * (length if i < n else 0) for i in range(len(group["_index"]))], dtype=object)
    group.create_dataset(name, data=texts, dtype=TEXT)
    group[name].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    group.attrs["column-order"] = np.array([name], dtype=object)


def test_long_texts_of_cells_are_within_the_budget_of_a_run(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+") as file:
        long_texts(file["obs"], "story", 5, 25_000_000)
    plan = hr.Plan(hr.open_h5ad(path))
    with pytest.raises(hr.MemoryBudgetError, match=r"are fixed \('story' of obs of .* has 125 MB of text"):
        plan.write_h5ad(tmp_path / "out.h5ad", memory="500MB")
    assert plan.explain(memory="2GB").peak_memory > 4 * 125e6


@pytest.mark.parametrize("where", ["var", "categories", "uns"])
def test_long_texts_that_are_held(where: str, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        if where == "var":
            long_texts(file["var"], "story", 3, 20_000_000)
        elif where == "uns":
            file["uns"].create_dataset("story", data=np.array(["x" * 20_000_000] * 3, dtype=object), dtype=TEXT)
        else:
            kind = file["obs"].create_group("story")
            kind.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
            kind["codes"] = np.zeros(CELLS, np.int8)
            kind["categories"] = np.array([f"{i}" + "x" * 20_000_000 for i in range(3)], dtype=object)
            file["obs"].attrs["column-order"] = np.array(["story"], dtype=object)
    with pytest.raises(
        hr.MemoryBudgetError, match=r"'story'.*: held in memory, that takes about 240 MB, and there are"
    ):
        hr.open_h5ad(path, uns="keep", memory="500MB").cost()


@pytest.mark.parametrize("name", ["X/data", "X/indptr", "obs/n"])
def test_what_unpacks_to_more_than_it_says(name: str, path: Path, tmp_path: Path) -> None:
    """A piece of 40 bytes of which 300 MB come: HDF5 itself unpacks all of it."""
    packer = zlib.compressobj(9)
    with h5py.File(path, "r+") as file:
        if name == "obs/n":
            file["obs/n"] = np.arange(CELLS)
            file["obs"].attrs["column-order"] = np.array(["n"], dtype=object)
        values, attributes = file[name][:], dict(file[name].attrs)
        del file[name]
        made = file.create_dataset(name, values.shape, values.dtype, chunks=values.shape, compression="gzip")
        parts = [packer.compress(values.tobytes()), *(packer.compress(bytes(1 << 22)) for _ in range(72))]
        try:
            made.id.write_direct_chunk((0,), b"".join([*parts, packer.flush()]))
        except OSError as error:
            pytest.skip(f"HDF5 {h5py.version.hdf5_version} cannot store such a piece: {error}")
        made.attrs.update(attributes)
    with pytest.raises(hr.SourceError, match=r"cannot be decompressed \(more than [\d,]+ bytes come of it\)"):
        hr.Plan(hr.open_h5ad(path, memory="500MB")).write_h5ad(tmp_path / "out.h5ad", memory="500MB")


@pytest.mark.parametrize(
    ("name", "shape", "chunks", "said"),
    [
        ("X/data", 10, 500_000_000, "pieces of 2,000 MB, each read whole"),
        ("X/data", 10**12, 1, "1,000,000,000,000 pieces, which are listed"),
        ("X/indptr", 21, 500_000_000, r"pieces of [24],000 MB"),
        ("varm/wide", (GENES, 10**8), (GENES, 1 << 16), "varm .* has 10 rows: .* takes about 8,000 MB"),
    ],
)
def test_pieces_and_arrays_without_end(name: str, shape: Any, chunks: Any, said: str, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        attributes = dict(file[name].attrs) if name in file else {"encoding-type": "array"}
        dtype = file[name].dtype if name in file else "f4"
        if name in file:
            del file[name]
        shape, chunks = (n if isinstance(n, tuple) else (n,) for n in (shape, chunks))
        made = file.create_dataset(
            name,
            shape,
            dtype,
            chunks=chunks,
            maxshape=(None,) * len(shape),
            compression="gzip" if chunks[0] > 1 else None,
        )
        made.attrs.update(attributes)
    with pytest.raises(hr.MemoryBudgetError, match=said):
        hr.open_h5ad(path, memory="500MB").cost()


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"chunks": (7,)},
        {"chunks": (7,), "compression": "gzip", "shuffle": True},
        {"chunks": (64,), "compression": "gzip"},
        {"chunks": (9,), "compression": "lzf"},
    ],
)
def test_lengths_of_texts_are_known_before_they_are_read(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["é" * (i * 7 % 23) for i in range(100)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("texts", data=np.array(texts, dtype=object), dtype=TEXT, **stored)
    lengths = [len(text.encode()) for text in texts]
    with h5py.File(tmp_path / "x.h5") as file:
        made = file["texts"]
        monkeypatch.setattr(h5py.Dataset, "__getitem__", None)  # no text is read for it
        found = texts_of(made, 30, "texts")
    assert found == Texts(sum(lengths), max(sum(lengths[a : a + 30]) for a in range(0, 100, 30)), max(lengths))


def test_an_attribute_that_does_not_fit(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["column-order"] = np.full(100_000, "x" * 100, "S100")
        with opening("300MB"), pytest.raises(hr.MemoryBudgetError, match="'column-order' of / of .* has 10 MB"):
            attribute(file, "column-order")
        assert len(attribute(file, "column-order")) == 100_000


def test_many_columns_cost_no_more_than_they_must(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of members are made up for messages only, and what there is of memory is asked for once."""
    made = ad.read_h5ad(path)
    made.obs = pd.DataFrame({f"c{i}": list("ab") * (CELLS // 2) for i in range(60)}, index=made.obs_names)
    made.write_h5ad(path, compression="gzip")
    asked = []
    monkeypatch.setattr(Place, "__str__", lambda self: asked.append(self) or "")
    monkeypatch.setattr(memory, "default_budget", lambda: asked.append(None) or 10**9)
    source = hr.open_h5ad(path)
    assert source.spec.obs.shape[1] == 60
    assert asked.count(None) < 10
    assert len(asked) - asked.count(None) < 10


@pytest.mark.parametrize("name", ["headrace", "kept"])
def test_groups_of_uns_that_hold_themselves(name: str, path: Path) -> None:
    """By hard links: itself in one file, the next one twice over 60 levels in the other, which has no end either."""
    with h5py.File(path, "a") as file:
        group = file["uns"].create_group(name)
        group["again"] = group
        for _ in range(60):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner
    assert hr.Plan(hr.open_h5ad(path)).to_anndata().n_obs == CELLS
    if name == "kept":
        with pytest.raises(hr.SourceError, match="is a group that is linked to more than once"):
            hr.open_h5ad(path, uns="keep")


def test_texts_in_attributes_that_are_no_names(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["obs"].attrs["column-order"] = np.array(["x", "y" * 70_000], dtype=object)
    with pytest.raises(hr.SourceError, match=r"'column-order' of /obs of .* has a text of 70,000 characters") as caught:
        hr.open_h5ad(path)
    assert len(str(caught.value)) < 1000


def test_texts_whose_lengths_cannot_be_read(path: Path) -> None:
    """The piece that they are in is damaged: an error of ours."""
    with h5py.File(path, "a") as file:
        made = file["obs"].create_dataset("text", (CELLS,), TEXT, chunks=(CELLS,), compression="lzf", shuffle=True)
        made[:] = [f"a text that packs {at % 3}" for at in range(CELLS)]
        made.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        file["obs"].attrs["column-order"] = np.array(["text"], dtype=object)
        offset, size = made.id.get_chunk_info(0).byte_offset, made.id.get_chunk_info(0).size
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes([0xFF]) * size
    path.write_bytes(data)
    with pytest.raises(hr.SourceError, match="'text' of obs"):
        hr.Plan(hr.open_h5ad(path)).to_anndata()


def test_categories_of_many_columns_are_added_up(path: Path) -> None:
    """Each fits, and all together do not: 20 columns with 30 MB each took 829 MB of memory="500MB"."""
    with h5py.File(path, "a") as file:
        for k in range(6):
            kind = file["obs"].create_group(f"kind{k}")
            kind.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
            kind["codes"] = np.zeros(len(file["obs/_index"]), np.int8)
            kind.create_dataset("categories", data=np.array(["x" * 30_000_000], object), dtype=h5py.string_dtype())
        file["obs"].attrs["column-order"] = [f"kind{k}" for k in range(6)]
    said = r"'kind[2345]' .* 30 MB of text; those of other columns take [69]\d MB: held in memory"
    with pytest.raises(hr.MemoryBudgetError, match=said):
        hr.open_h5ad(path, memory="500MB")

"""Damaged headers of HDF5: over some of them the library crashes, so each file is opened in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr

DATATYPE, FILL = 3, 5
"""Kinds of messages in the header of a dataset."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"kind": pd.Categorical(list("abc") * 10), "text": ["t"] * 30}, index=[f"c{i}" for i in range(30)]
    )
    uns = {"kept": {"a": 1, "b": "two"}}
    X = sparse.csr_matrix(rng.poisson(0.6, (30, 20)).astype(np.float32))
    path = tmp_path_factory.mktemp("damaged") / "whole.h5ad"
    anndata.AnnData(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(20)]), uns=uns).write_h5ad(path)
    return path


def messages(path: Path, name: str) -> dict[int, int]:
    """Return where the last message of each kind in the header of an object has its data (headers of version 1)."""
    with h5py.File(path) as file:
        at = h5py.h5o.get_info(file[name].id).addr
    data = path.read_bytes()
    assert data[at] == 1
    end, at, found = at + 16 + int.from_bytes(data[at + 8 : at + 12], "little"), at + 16, {}
    while at + 8 <= end:
        kind, size = (int.from_bytes(data[at + k : at + k + 2], "little") for k in (0, 2))
        found[kind] = at + 8
        at += 8 + size
    return found


def read(path: Path) -> subprocess.CompletedProcess[str]:
    """Read a file in a process of its own; it says "read" or why it is refused."""
    script = """
import sys, headrace as hr
try:
    source = hr.open_h5ad(sys.argv[1], uns="keep")
    source.provenance(), [chunk.n_obs for chunk in hr.Plan(source, []).chunks()]
    print("read")
except hr.HeadraceError as error:
    print(error)
"""
    return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120)


def changed(whole: Path, to: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(whole.read_bytes())
    change(data)
    to.write_bytes(data)
    return to


def test_a_fill_value_that_cannot_be(whole: Path, tmp_path: Path) -> None:
    """HDF5 crashes when it is asked for one whose parts contradict each other; found by mutation."""
    at = messages(whole, "X/indptr")[FILL]

    def contradict(data: bytearray) -> None:
        assert data[at] == 2, "version 2: when it is allocated and written, whether it is defined"
        data[at + 3] = 1
        data[at + 4 : at + 8] = (-65536).to_bytes(4, "little", signed=True)  # its size

    ended = read(changed(whole, tmp_path / "x.h5ad", contradict))
    assert ended.returncode == 0, ended.stderr
    assert "fill value" in ended.stdout
    assert "the file may be damaged" in ended.stdout


@pytest.mark.parametrize("name", ["obs/_index", "obs/kind/categories", "var/_index"])
def test_text_in_an_encoding_that_there_is_not(name: str, whole: Path, tmp_path: Path) -> None:
    at = messages(whole, name)[DATATYPE]

    def put(data: bytearray) -> None:
        data[at + 2] = 255  # the character set

    path = changed(whole, tmp_path / "x.h5ad", put)
    with pytest.raises(hr.SourceError, match=f"while reading /{name} of .*Unknown string encoding.*copy it again"):
        str(hr.open_h5ad(path).spec)


@pytest.mark.parametrize(
    "dtype", [h5py.vlen_dtype(np.int32), np.dtype([("a", "i4")]), np.dtype("V8")], ids=["sequence", "record", "opaque"]
)
def test_an_attribute_of_another_type(dtype: np.dtype[np.void], whole: Path, tmp_path: Path) -> None:
    """A flipped bit makes a sequence of a text, and HDF5 crashes over what it then takes for its place."""
    path = Path(shutil.copy(whole, tmp_path / "x.h5ad"))
    with h5py.File(path, "a") as file:
        del file["obs/text"].attrs["encoding-type"]
        kind = h5py.h5t.py_create(dtype, logical=True)
        h5py.h5a.create(file["obs/text"].id, b"encoding-type", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    with pytest.raises(hr.SourceError, match="'encoding-type' of /obs/text of .* holds neither text nor numbers"):
        str(hr.open_h5ad(path).spec)


@pytest.mark.parametrize("where", ["uns", "uns/kept", "layers", "obs"])
def test_a_name_that_is_no_text(where: str, whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "x.h5ad"))
    with h5py.File(path, "a") as file:
        h5py.h5g.create(file[where].id, b"a\xff")
    source = hr.open_h5ad(path)
    assert source.spec.n_obs == 30
    source.provenance()  # lists what is left out
    if where.startswith("uns"):
        with pytest.raises(hr.SourceError, match=r"uns.*a\\xff of .* is not there; the file may be damaged"):
            str(hr.open_h5ad(path, uns="keep").spec.uns)


def test_a_column_whose_name_is_no_text(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "x.h5ad"))
    with h5py.File(path, "a") as file:
        file["obs"].attrs["column-order"] = np.array([b"kind", b"kin\xde"], dtype=h5py.string_dtype())
    with pytest.raises(hr.SourceError, match="kin"):
        str(hr.open_h5ad(path).spec)


def test_a_text_that_lies_beyond_the_file(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5ad"
    hr.Plan(hr.open_h5ad(whole), []).write_h5ad(path)
    with h5py.File(path) as file:
        name, at = "uns/headrace/fingerprint", file["uns/headrace/fingerprint"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[at + 4 : at + 12] = (1 << 40).to_bytes(8, "little")  # where the heap is that has it
    path.write_bytes(data)
    with pytest.raises(hr.SourceError, match=f"while reading /{name} of .*; the file may be damaged, so copy it again"):
        str(hr.open_h5ad(path, holds="counts").spec.uns)

"""`verify_h5ad` finds what is wrong with a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import headrace as hr
from conftest import LIVER


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


CHANGES = {
    "unsorted": (lambda f: f["X/indices"].__setitem__(slice(0, 2), f["X/indices"][:2][::-1]), "columns not sorted"),
    "out of range": (lambda f: f["X/indices"].__setitem__(0, 10**6), "a column outside of 0"),
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

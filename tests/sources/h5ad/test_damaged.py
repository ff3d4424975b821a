"""Damaged headers of HDF5: over some of them the library crashes, so each file is opened in a process of its own."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.sources.h5ad import filters
from headrace.support.heaps import check_heaps

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
    return limited(script, str(path))


def limited(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a script with so little memory that what would take without end ends soon."""
    most = (4 << 30, 4 << 30)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *args],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, most),
        capture_output=True,
        text=True,
        timeout=300,
    )


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


ANY = """
import sys, headrace as hr
for open in (hr.open_h5ad, hr.open_10x, hr.open_counts, hr.verify_h5ad):
    try:
        source = open(sys.argv[1])
        if open is not hr.verify_h5ad:
            str(source.spec), [chunk.n_obs for chunk in hr.Plan(source, []).chunks()]
        print("read")
    except hr.HeadraceError as error:
        print(error)
"""


def heaps(data: bytes) -> list[tuple[int, int, int]]:
    """Return where the local heaps of a file are: their heads, their data, and how long these are."""
    found, at = [], data.find(b"HEAP")
    while at >= 0:
        size, place = (int.from_bytes(data[at + k : at + k + 8], "little") for k in (8, 24))
        found.append((at, place, size))
        at = data.find(b"HEAP", at + 1)
    return found


@pytest.mark.parametrize("steps", [1, 2])
def test_free_space_that_goes_round_in_a_circle(steps: int, whole: Path, tmp_path: Path) -> None:
    """Found by mutation: HDF5 takes memory without end over it, of any group."""
    said, all_heaps = [], heaps(whole.read_bytes())
    assert len(all_heaps) > 8
    for number in range(0, len(all_heaps), 1 + len(all_heaps) // 6):
        at, place, size = all_heaps[number]

        def hurt(data: bytearray, at: int = at, place: int = place, size: int = size) -> None:
            blocks = [size - 16 * steps + 16 * k for k in range(steps)]
            data[at + 16 : at + 24] = blocks[0].to_bytes(8, "little")
            for k, block in enumerate(blocks):
                following = blocks[(k + 1) % steps]
                data[place + block : place + block + 16] = following.to_bytes(8, "little") + (16).to_bytes(8, "little")

        done = limited(ANY, str(changed(whole, tmp_path / f"{number}.h5ad", hurt)))
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        assert "memory allocation" not in done.stdout + done.stderr
    assert sum("goes round in a circle; copy the file again" in one for one in said) >= 4
    assert "circle" in said[0], "that of the file's own group"


def test_free_space_of_a_list_of_external_files(tmp_path: Path) -> None:
    path = tmp_path / "x.h5ad"
    with h5py.File(path, "w") as file:
        file["obs/a"] = file["var/a"] = np.arange(3)
        file.create_dataset("X", (3, 3), "f4", external=[("other.raw", 0, h5py.h5f.UNLIMITED)])
    data = bytearray(path.read_bytes())
    at, place, size = next(one for one in heaps(bytes(data)) if b"other.raw" in data[one[1] : one[1] + one[2]])
    data[at + 16 : at + 24] = (size - 16).to_bytes(8, "little")
    data[place + size - 16 : place + size] = (size - 16).to_bytes(8, "little") + (16).to_bytes(8, "little")
    path.write_bytes(data)
    assert "goes round in a circle" in read(path).stdout


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("block", [0, 512])
def test_whole_files_of_any_version_have_no_such_heaps(block: int, libver: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=block) as file:
        for name in ("a", "a/b", "c"):
            group = file.create_group(name)
            for k in range(40):
                group[f"member {k}"] = k
            for k in range(0, 40, 3):
                del group[f"member {k}"]
    with h5py.File(path) as file:
        check_heaps(file)


def text_heaps(data: bytes) -> list[list[tuple[int, int]]]:
    """Return of each heap of texts where its objects are, and how long: the last one is what is free."""
    found, at = [], data.find(b"GCOL")
    while at >= 0:
        end, place, objects = at + int.from_bytes(data[at + 8 : at + 16], "little"), at + 16, []
        while place + 16 <= end:
            size = int.from_bytes(data[place + 8 : place + 16], "little")
            objects.append((place, size))
            place += size if data[place : place + 2] == bytes(2) else 16 + -(-size // 8) * 8
        found.append(objects)
        at = data.find(b"GCOL", end)
    return found


@pytest.mark.parametrize("wrong", ["no length", "beyond the end", "round the world"])
def test_a_heap_of_texts_that_has_no_end(wrong: str, tmp_path: Path) -> None:
    """Found by setting every byte: HDF5 comes upon zeros that it takes for an object of no length, and stays there."""
    path = tmp_path / "whole.h5ad"
    obs = pd.DataFrame({"text": [f"a text {i}" for i in range(900)]}, index=[f"c{i}" for i in range(900)])
    X = sparse.csr_matrix(np.ones((900, 2), np.float32))
    made = anndata.AnnData(X, obs, uns={"kept": "a" * 5000})  # which gets a heap of its own
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "/", made)
    every, paths = text_heaps(path.read_bytes()), []
    assert len(every) == 4
    for objects in every:
        *texts, (free, left) = objects if len(objects) > 1 else [*objects, (0, 0)]
        for place, _ in {texts[0], texts[len(texts) // 2], texts[-1]}:
            amid = (free + left // 2) // 8 * 8 - place - 16
            length = {"no length": amid if left else 0, "beyond the end": 1 << 40}.get(wrong, (1 << 64) - 32)

            def hurt(data: bytearray, place: int = place, length: int = length) -> None:
                data[place + 8 : place + 16] = length.to_bytes(8, "little")

            paths.append(str(changed(path, tmp_path / f"{len(paths)}.h5ad", hurt)))
    done = limited(EACH, str(path), *paths)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "read"
    assert len(said) == len(paths) + 1 == 11
    ours = ["texts in it have lengths that cannot be; copy the file again" in one for one in said[1:]]
    assert any(ours), said
    assert all(ours) or wrong == "no length"  # which may lead to what is left of another text: HDF5 says so
    assert "read" not in said[1:]


@pytest.mark.parametrize("where", ["obs", "obs/_index", "obs/kind/categories", "uns/kept/b"])
def test_a_text_that_is_longer_than_its_heap(where: str, whole: Path, tmp_path: Path) -> None:
    """Found by setting every byte: HDF5 takes 4 GB for it, and then looks how long it is."""
    path = Path(shutil.copy(whole, tmp_path / "x.h5ad"))
    data = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        if where == "obs":  # an attribute: the first descriptor behind the group's header
            at = data.index(data.index(b"GCOL").to_bytes(8, "little"), h5py.h5o.get_info(file["obs"].id).addr) - 4
        else:
            at = file[where].id.get_offset()
    data[at + 3] = 255  # the highest byte of its length
    path.write_bytes(data)
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    said, most = limited(f"{EACH}\n{peak}", str(path)).stdout.splitlines()
    assert "texts in it have lengths that cannot be; copy the file again" in said
    assert int(most) < 1_000_000, "kB"


@pytest.mark.parametrize(("at", "value"), [(1, 2), (4, 1)])
def test_types_of_texts_that_are_something_else(at: int, value: int, whole: Path, tmp_path: Path) -> None:
    """Found by setting every byte: HDF5 crashes over lists of texts, and over texts of another size takes gigabytes."""
    data, paths = whole.read_bytes(), []
    for found in re.finditer(rb"\x19..\x00\x10\x00\x00\x00", data, re.DOTALL):  # a sequence of 16 bytes
        paths.append(tmp_path / f"{found.start()}.h5ad")
        paths[-1].write_bytes(data[: found.start() + at] + bytes([value]) + data[found.start() + at + 1 :])
    assert len(paths) > 30
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = limited(f"{EACH}\n{peak}", *map(str, paths))
    assert done.returncode == 0, done.stderr
    *said, most = done.stdout.splitlines()
    assert len(said) == len(paths)
    assert int(most) < 1_000_000, "kB"


@pytest.mark.parametrize("of", ["obs/kind", "obs", "obs/kind/categories", "/"])
@pytest.mark.parametrize("name", ["codes", "categories"])
def test_codes_and_categories_that_are_a_circle(name: str, of: str, whole: Path, tmp_path: Path) -> None:
    """Found by mutation: codes that are the column itself, or what it is in, for ever."""
    path = Path(shutil.copy(whole, tmp_path / "x.h5ad"))
    with h5py.File(path, "r+") as file:
        target = file[of]
        assert file["obs/kind"].attrs["encoding-type"] == "categorical"
        del file[f"obs/kind/{name}"]
        if of != f"obs/kind/{name}":
            file[f"obs/kind/{name}"] = target
        for other in ("obs", "/"):
            file[other].attrs["encoding-type"] = "categorical"
    with pytest.raises(hr.SourceError, match="kind"):
        hr.open_h5ad(path).spec  # noqa: B018 # reads the columns


GZ, SHUFFLED, CHECKED = dict(compression="gzip"), dict(shuffle=True), dict(fletcher32=True)
LZF = dict(compression="lzf")
EIGHT = bytes([7]) + bytes(range(8))
"""Eight bytes, packed by lzf: none of them comes again."""
OF_ANOTHER_LENGTH: list[tuple[dict[str, Any], bytes]] = [
    ({}, bytes(8)),
    (SHUFFLED, bytes(8)),
    (CHECKED, bytes(3)),
    (CHECKED, bytes(4)),
    (CHECKED, bytes(8)),
    (GZ, zlib.compress(bytes(8))),
    (GZ | SHUFFLED, zlib.compress(bytes(16))),
    (GZ, zlib.compress(b"")),
    (GZ, bytes(1)),
    (GZ | CHECKED, bytes(2)),
    (GZ | CHECKED, zlib.compress(bytes(8)) + bytes(4)),
    (LZF, EIGHT),
    (LZF | SHUFFLED, EIGHT),
    (LZF, EIGHT[:4]),
    (LZF, bytes([0, 0, 32, 5])),
    (LZF | CHECKED, EIGHT + bytes(4)),
    ({}, bytes(5000)),
    ({}, bytes(100_000)),
    (SHUFFLED, bytes(5000)),
    (CHECKED, bytes(5000)),
    (GZ, zlib.compress(bytes(5000))),
]
"""Filters, and what is stored of a piece that has more, or less."""

EACH = """
import sys, headrace as hr
for path in sys.argv[1:]:
    try:
        source = hr.open_h5ad(path, uns="keep")
        str(source.spec), [chunk.n_obs for chunk in hr.Plan(source, []).chunks()]
        print("read", flush=True)
    except hr.HeadraceError as error:
        print(str(error).replace(chr(10), " "), flush=True)
"""


@pytest.mark.parametrize("where", ["obs/n", "obs/text", "X/data", "obsm/pca", "uns/kept"])
def test_a_piece_that_is_stored_with_less_or_more_than_it_has(where: str, whole: Path, tmp_path: Path) -> None:
    """Found by mutation: HDF5 fills it up with what is in memory, or writes it over what comes behind, or crashes."""
    paths = []
    for number, (how, stored) in enumerate(OF_ANOTHER_LENGTH):
        for kind in () if where == "obs/text" and "fletcher32" in how else ("good", "bad"):  # HDF5 has none of text
            path = shutil.copy(whole, tmp_path / f"{number}-{kind}.h5ad")
            with h5py.File(path, "r+") as file:
                file["obs"].attrs["column-order"] = ["kind", "text", "n"]
                file["obs/n"], file["obsm/pca"] = np.arange(30.0), np.ones((30, 2))
                del file["uns/kept"]
                file["uns/kept"] = np.arange(30)
                del file["obs/text"]
                file.create_dataset("obs/text", data=["t"] * 30, dtype=h5py.string_dtype())
                file["obs/text"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
                values, attributes, dtype = file[where][()], dict(file[where].attrs), file[where].dtype
                del file[where]
                made = file.create_dataset(where, values.shape, dtype, chunks=values.shape, **how)
                made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0", **attributes})
                if kind == "good":
                    made[...] = values
                else:
                    made.id.write_direct_chunk((0,) * made.ndim, stored)
            paths.append(str(path))
    done = limited(EACH, *paths)
    assert done.returncode == 0, done.stderr
    for path, said in zip(paths, done.stdout.splitlines(), strict=True):
        assert (said == "read") is path.endswith("good.h5ad"), (path, said)
        assert said == "read" or re.search("damaged|cannot be decompressed|cut off|broken", said), said


@pytest.mark.parametrize("how", [dict(compression="szip"), dict(scaleoffset=0)], ids=["szip", "scaleoffset"])
@pytest.mark.parametrize("where", ["obs/n", "X/indices"])
def test_filters_that_are_left_to_the_library(where: str, how: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    if "compression" in how and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        pytest.skip("this HDF5 has no szip")
    path = Path(shutil.copy(whole, tmp_path / "x.h5ad"))
    with h5py.File(path, "r+") as file:
        file["obs"].attrs["column-order"] = ["kind", "text", "n"]
        file["obs/n"] = np.arange(30)
        file["obs/n"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        values, attributes = file[where][()], dict(file[where].attrs)
        del file[where]
        file.create_dataset(where, data=values, chunks=(10,), **how).attrs.update(attributes)
    expected, found = anndata.read_h5ad(path), hr.Plan(hr.open_h5ad(path)).to_anndata()
    np.testing.assert_array_equal(found.X.toarray(), sparse.csr_matrix(expected.X).toarray())
    assert found.obs["n"].tolist() == list(range(30))


def test_packed_columns_are_unpacked_when_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece once, and none while the file is opened, save those that have the lengths of texts."""
    n = 3000
    columns = {f"c{k}": np.arange(n) * (k + 0.5) for k in range(5)} | {"kind": pd.Categorical(["a", "b", None] * 1000)}
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])
    X = sparse.csr_matrix(np.ones((n, 2), np.float32))
    path = tmp_path / "x.h5ad"
    made = anndata.AnnData(X, obs, obsm={"pca": np.arange(3.0 * n).reshape(n, 3)})
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "/", made, dataset_kwargs={"compression": "gzip", "shuffle": True, "chunks": True})
        packed = []
        for name in ("obsm/pca", "obs/kind/codes", "obs/c0", "obs/c4"):
            number = file[name].id
            offsets = [number.get_chunk_info(k).chunk_offset for k in range(number.get_num_chunks())]
            packed += [number.read_direct_chunk(at)[1] for at in offsets]
    assert len(packed) == len(set(packed)) > 6
    inflate, seen = filters.inflate, []
    monkeypatch.setattr(filters, "inflate", lambda raw, most: seen.append(bytes(raw)) or inflate(raw, most))
    source = hr.open_h5ad(path, holds="counts")
    str(source.spec)
    assert seen
    assert not set(seen) & set(packed)
    cells = hr.Plan(source, []).to_anndata()
    assert [seen.count(piece) for piece in packed] == [1] * len(packed)
    pd.testing.assert_frame_equal(cells.obs, obs, check_names=False)
    np.testing.assert_array_equal(cells.obsm["pca"], made.obsm["pca"])

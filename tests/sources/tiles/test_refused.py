"""Each line of the gate has an array that it refuses; what it lets through is what TileDB reads."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiledbsoma as soma

from headrace.sources.ranges import CellRange
from headrace.sources.tiles import Declined, Line, TileReader, open_fragments

REFUSED = Path(__file__).parents[2] / "data" / "tiles" / "refused"
READ = {"plain": 1, "appended": 2, "commits": 2, "consolidated": 1, "fragment_metadata": 2}
"""Arrays of these kinds are read, and have so many fragments."""

REASONS = {
    "bit_width": r"'soma_dim_1' is stored with the filters \[7, 2\]",
    "bitshuffle": r"'soma_dim_1' is stored with the filters \[8, 2\]",
    "checksum": r"'soma_data' is stored with the filters \[2, 12\]",
    "column_major_cells": "not in row-major order",
    "column_major_tiles": "not in row-major order",
    "consolidated_no_duplicates": "duplicates have to be told apart by the time of writing",
    "deleted": "cells were deleted",
    "deleted_commits": "cells were deleted",
    "deleted_consolidated": "other files than plain values",
    "dense": "other files than plain values",
    "double_delta": r"'soma_dim_0' is stored with the filters \[6, 2\]",
    "empty": "it has no fragments",
    "encrypted": "it is encrypted",
    "enumeration": "not one float32 a cell",
    "evolved": "it has 2 attributes",
    "far_columns": "coordinates are negative or too large",
    "float64": "not one float32 a cell",
    "from_minus_one": "does not begin at 0",
    "gzip": r"'soma_data' is stored with the filters \[1\]",
    "hilbert": "not in row-major order",
    "int32": "not one float32 a cell",
    "no_filter": r"'soma_data' is stored with the filters \[\]",
    "not_vacuumed": "fragments joined and not vacuumed",
    "nullable": "other files than plain values",
    "other_names": "its fields are rows, columns, soma_data",
    "overlapping": "rows of it are in several fragments",
    "two_attributes": "other files than plain values",
    "uint64": "not one int64 a cell",
}


def array(name: str, folder: Path) -> str:
    zipfile.ZipFile(REFUSED / f"{name}.zip").extractall(folder)
    return str(folder)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return Path(array("plain", tmp_path))


def refused(folder: Path, reason: str, **asked: object) -> None:
    with pytest.raises(Declined, match=reason):
        open_fragments(str(folder), {}, **asked)


def test_every_array_has_its_line() -> None:
    assert {path.stem for path in REFUSED.glob("*.zip")} == {*REASONS, *READ}


@pytest.mark.parametrize("name", sorted(REASONS))
def test_refused(name: str, tmp_path: Path) -> None:
    refused(Path(array(name, tmp_path)), REASONS[name])


@pytest.mark.parametrize("name", sorted(READ))
def test_read_as_tiledb_reads_it(name: str, tmp_path: Path) -> None:
    fragments = open_fragments(array(name, tmp_path), {})
    assert len(fragments) == READ[name]
    reader = TileReader(
        fragments, np.arange(90), None, np.arange(300, dtype=np.int32), line=Line(False), threads=2, window=8 << 20
    )
    (X,) = reader.read([CellRange(0, 90)])
    with soma.open(str(tmp_path)) as opened:
        table = opened.read((slice(0, 89),)).tables().concat()
    rows, columns, values = (table[name].to_numpy() for name in ("soma_dim_0", "soma_dim_1", "soma_data"))
    order = np.lexsort((columns, rows))
    assert np.array_equal(np.repeat(np.arange(90), np.diff(X.indptr)), rows[order])
    assert np.array_equal(X.indices, columns[order])
    assert np.array_equal(X.data.view(np.uint32), values[order].view(np.uint32))


# ------------------------------------------------------------------- what no release of TileDB-Py writes, by hand
def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_files_of_another_layout(plain: Path) -> None:
    (plain / "__labels").mkdir(exist_ok=True)
    (plain / "__labels" / "one").write_bytes(b"")
    refused(plain, r"files of another layout \(__labels\)")


def test_not_committed(plain: Path) -> None:
    one(plain, "__commits/*.wrt").unlink()
    refused(plain, "a fragment of it is not committed")


def test_to_be_ignored(plain: Path) -> None:
    name = one(plain, "__commits/*.wrt").name
    (plain / "__commits" / "__1_1_0_22.ign").write_text(f"__commits/{name}\n")
    refused(plain, "a fragment of it is to be ignored")


def test_another_commit(plain: Path) -> None:
    (plain / "__commits" / "__1_2_0123456789abcdef0123456789abcdef_22.upd").write_bytes(b"")
    refused(plain, "cells were deleted")


def test_written_later_than_now(plain: Path) -> None:
    refused(plain, "written later than this computer's clock says", now=1_000)


def test_a_version_that_was_not_compared(plain: Path) -> None:
    fragment = one(plain, "__fragments/*")
    fragment.rename(fragment.with_name(fragment.name.removesuffix("_22") + "_23"))
    refused(plain, "is of another format version")


def test_another_version_within(plain: Path) -> None:
    fragment = one(plain, "__fragments/*")
    older = fragment.name.removesuffix("_22") + "_21"
    fragment.rename(fragment.with_name(older))
    one(plain, "__commits/*.wrt").rename(plain / "__commits" / f"{older}.wrt")
    refused(plain, "its fragment has format version 22")


@pytest.mark.parametrize("file", ["d0", "d1", "a0"])
def test_a_file_of_another_size(plain: Path, file: str) -> None:
    path = one(plain, f"__fragments/*/{file}.tdb")
    path.write_bytes(path.read_bytes() + b"\0")
    refused(plain, "the sizes of its files are not those that its fragment says")


def test_times_where_none_are_said(plain: Path) -> None:
    one(plain, "__fragments/*/a0.tdb").with_name("t.tdb").write_bytes(b"")
    refused(plain, "no timestamps where it says so")


def test_a_schema_that_is_not_there(plain: Path) -> None:
    schema = one(plain, "__schema/__[0-9]*")
    schema.rename(schema.with_name("__1_1_0123456789abcdef0123456789abcdef"))
    refused(plain, "the schema of its fragment is not there")


def test_no_schema(plain: Path) -> None:
    one(plain, "__schema/__[0-9]*").unlink()
    refused(plain, "it has 0 schemas")


def generic(content: bytes, version: int = 22, filters: int = 1, encryption: int = 0) -> bytes:
    """A "Generic Tile" of one chunk, through gzip."""
    data = zlib.compress(content)
    tile = (
        struct.pack("<QIII", 1, len(content), len(data), 16)
        + struct.pack("<IIII", 0, 1, len(content), len(data))
        + data
    )
    pipeline = struct.pack("<II", 1 << 16, 1) + struct.pack("<BIBi", filters, 5, filters, -1)
    head = struct.pack("<IQQBQBI", version, len(tile), len(content), 0, 1, encryption, len(pipeline))
    return head + pipeline + tile


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ({"version": 23}, "its metadata has format version 23"),
        ({"filters": 2}, r"stored with the filters \[2\]"),
        ({"encryption": 1}, "it is encrypted"),
    ],
)
def test_metadata_of_another_kind(plain: Path, kind: dict[str, int], reason: str) -> None:
    one(plain, "__schema/__[0-9]*").write_bytes(generic(b"nothing", **kind))
    refused(plain, reason)


def test_metadata_that_would_fill_the_memory(plain: Path) -> None:
    """16 MiB of zeros take 16 kB; a schema of so many is not unpacked."""
    one(plain, "__schema/__[0-9]*").write_bytes(generic(bytes(1 << 24)))
    refused(plain, "its schema has 16,777,216 bytes")
    one(plain, "__schema/__[0-9]*").write_bytes(generic(bytes((1 << 24) + 1)))
    refused(plain, "impossible sizes")


def test_a_band_that_would_fill_the_memory(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.sources.tiles import fragment

    monkeypatch.setattr(fragment, "MOST_BAND_CELLS", 500)
    refused(plain, "values lie in one band of 32 rows")


def test_too_many_fragments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.sources.tiles import gate

    monkeypatch.setattr(gate, "MOST_FRAGMENTS", 1)
    refused(Path(array("appended", tmp_path)), "it has 2 fragments")

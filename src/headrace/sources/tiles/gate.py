"""Which arrays may be read without TileDB. Everything else, and every doubt, is declined with one reason."""

from __future__ import annotations

import re
import struct
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from ...errors import LineError, SourceError
from ...traffic import Traffic
from .fragment import Fragment
from .generic import VERSIONS, Declined, Section, require
from .metadata import Footer, Schema, leaves
from .settings import check_settings
from .store import Store, open_store, read_many

MOST_FRAGMENTS = 64
"""More of them take so many requests to open that TileDB is no slower."""
TAIL_BYTES = 1 << 20
"""Of the fragment's metadata, read with the footer in one request."""

_FRAGMENT = re.compile(r"__(\d+)_(\d+)_[0-9a-f]{32}_(\d+)")
_SCHEMA = re.compile(r"__\d+_\d+_[0-9a-f]{32}")
_FILES = {"__fragment_metadata.tdb", "a0.tdb", "d0.tdb", "d1.tdb"}
_FOLDERS = {"__schema", "__fragments", "__commits", "__meta", "__fragment_meta"}


def open_fragments(
    uri: str,
    config: Mapping[str, str],
    now: int | None = None,
    store: Store | None = None,
    traffic: Traffic | None = None,
) -> list[Fragment]:
    """Open an array, in a few requests one after another, if it may be read without TileDB.

    Parameters
    ----------
    uri
        Of the array.
    config
        TileDB settings that differ from TileDB's defaults, as text.
    now
        Milliseconds since 1970: what was written later is not read by TileDB.
    store
        Where its files are, if they were listed already.
    traffic
        Where to count what comes from far away, and for how long to try again.

    Returns
    -------
    Its fragments, by increasing rows; no row is in two.

    Raises
    ------
    Declined
        If TileDB has to read it; the message says why, and reads on from "because".
    LineError
        If the files could be read so, but the line or the server fails.
    """
    check_settings(config)
    try:
        store = open_store(uri, config, traffic) if store is None else store
        return _open(store, time.time_ns() // 1_000_000 if now is None else now)
    except SourceError as error:
        if isinstance(error, LineError) and error.kind == "passes":
            raise  # TileDB has no other way
        raise Declined(f"its files cannot be reached otherwise ({error})") from error
    except (struct.error, zlib.error, ValueError, OverflowError, KeyError, IndexError, OSError) as error:
        raise Declined(f"its metadata is not understood ({type(error).__name__}: {error})") from error


def _open(store: Store, now: int) -> list[Fragment]:
    files = store.list()
    names = _fragment_names(files, now)
    schema_files = [name for name in files if name.startswith("__schema/") and "/__enumerations/" not in name]
    lists = [name for name in files if name.startswith("__commits/") and name.endswith((".con", ".ign"))]
    metadata = [f"__fragments/{name}/__fragment_metadata.tdb" for name in names]
    require(0 < len(schema_files) <= MOST_FRAGMENTS, f"it has {len(schema_files)} schemas")
    wanted = [(path, 0, min(files[path], 1 << 22)) for path in (*schema_files, *lists)]
    wanted += [(path, max(0, files[path] - TAIL_BYTES), files[path]) for path in metadata]
    found = [bytes(data) for data in read_many(store, wanted)]
    schemas = {path.rpartition("/")[2]: Schema.parse(data) for path, data in zip(schema_files, found, strict=False)}
    require(all(_SCHEMA.fullmatch(name) for name in schemas), "its schema folder has files of another kind")
    schema = next(iter(schemas.values()))
    require(all(other == schema for other in schemas.values()), "its schema has changed")
    _check_commits(names, files, dict(zip(lists, found[len(schema_files) :], strict=False)))
    fragments = []
    for name, path, tail in zip(names, metadata, found[len(schema_files) + len(lists) :], strict=True):
        footer = Footer.parse(tail, files[path], int(name.rpartition("_")[2]))
        require(footer.schema in schemas, "the schema of its fragment is not there")
        fragments.append(_fragment(store, files, name, schema, footer, tail))
    return _in_order(fragments)


def _fragment_names(files: Mapping[str, int], now: int) -> list[str]:
    """Return the names of the fragments, or decline by what is in the array's folder."""
    others = {name.split("/", 1)[0] for name in files} - _FOLDERS
    require(not others, f"it has files of another layout ({', '.join(sorted(others)[:3])})")
    held: dict[str, set[str]] = {}
    for path in files:
        if path.startswith("__fragments/"):
            _, name, *rest = path.split("/", 2)
            held.setdefault(name, set()).add("/".join(rest))
    require(bool(held), "it has no fragments")
    require(len(held) <= MOST_FRAGMENTS, f"it has {len(held)} fragments")
    for name, inside in held.items():
        match = _FRAGMENT.fullmatch(name)
        require(match is not None and int(match[3]) in VERSIONS, f"its fragment {name} is of another format version")
        assert match is not None
        require(int(match[2]) <= now, "a fragment of it was written later than this computer's clock says it is")
        require(
            inside - {"t.tdb"} == _FILES,
            f"its fragment has other files than plain values ({', '.join(sorted(inside ^ _FILES)[:3])})",
        )
    return sorted(held)


def _check_commits(names: list[str], files: Mapping[str, int], lists: Mapping[str, bytes]) -> None:
    """Decline unless every fragment is committed, and nothing else is: no delete, update or vacuum file."""
    single = {name.rpartition("/")[2] for name in files if name.startswith("__commits/") and name not in lists}
    wanted = {f"{name}.wrt" for name in names}
    other = single - wanted
    require(not other, f"cells were deleted, or fragments joined and not vacuumed ({', '.join(sorted(other)[:2])})")
    committed = set(single)
    for path, data in lists.items():
        require(files[path] == len(data), "it has a list of commits that is very long")
        lines = {line.rpartition("/")[2] for line in data.decode("latin-1").splitlines()}
        require(all(line.endswith(".wrt") for line in lines), "cells were deleted")
        if path.endswith(".ign"):
            require(not lines & wanted, "a fragment of it is to be ignored")
        else:
            committed |= lines
    require(wanted <= committed, "a fragment of it is not committed")


def _fragment(
    store: Store, files: Mapping[str, int], name: str, schema: Schema, footer: Footer, tail: bytes
) -> Fragment:
    """Return one fragment once its R-tree and offsets are known to be what they should be."""
    folder = f"__fragments/{name}"
    path = f"{folder}/__fragment_metadata.tdb"
    sizes = tuple(files[f"{folder}/{file}.tdb"] for file in ("d0", "d1", "a0"))
    require(sizes == footer.file_sizes, "the sizes of its files are not those that its fragment says")
    require(footer.timestamps == (f"{folder}/t.tdb" in files), "its fragment has no timestamps where it says so")
    require(schema.duplicates or not footer.timestamps, "duplicates have to be told apart by the time of writing")
    require(0 < footer.last_cells <= schema.capacity, "the last tile of its fragment is empty or too full")
    require(0 < footer.n_tiles <= sum(sizes) // 3, "its fragment says that it has more tiles than bytes")
    n_rows = footer.rows[1] - footer.rows[0]
    require(n_rows // schema.extents[0] < 1 << 22, "it has more than four million bands of rows")
    places = (footer.rtree, *footer.offsets, footer.conditions)
    start = files[path] - len(tail)
    if min(places) >= start:
        sections = [Section.of(tail[place - start : footer.end(place) - start]) for place in places]
    else:
        sections = _long(store, [(path, place, footer.end(place)) for place in places])
    rtree, *offsets, conditions = sections
    require(conditions.size == 8 and conditions.numbers(0, 1, "<u8")[0] == 0, "deleted cells were left out of it")
    for section in offsets:
        one_each = section.size == 8 * (1 + footer.n_tiles) and section.numbers(0, 1, "<u8")[0] == footer.n_tiles
        require(bool(one_each), "its fragment has not one offset for each tile")
    return Fragment(store, folder, schema, footer, rtree, leaves(rtree, footer.n_tiles), tuple(offsets))


def _long(store: Store, places: Sequence[tuple[str, int, int]]) -> list[Section]:
    """Return sections of a long file: read again when they are needed where that costs little, else held in memory."""
    if not store.ready(places):
        return [Section.of(bytes(data)) for data in read_many(store, places)]

    def reader(path: str, place: int) -> Callable[[int, int], bytes]:
        return lambda start, stop: bytes(store.read(path, place + start, place + stop))

    return [Section(reader(path, start), stop - start, held=False) for path, start, stop in places]


def _in_order(fragments: list[Fragment]) -> list[Fragment]:
    """Return the fragments by increasing rows, or decline if a row may be in two."""
    fragments.sort(key=lambda one: one.footer.rows)
    for one, other in pairwise(fragments):
        require(one.footer.rows[1] < other.footer.rows[0], "rows of it are in several fragments")
    return fragments

"""Which bytes of which files TileDB needs for some rows and fields of a sparse array, whatever its fields are.

Nothing is decoded here but metadata: where the tiles are that may hold a row. Names in quotation marks are those of
TileDB's format specification, as in `metadata`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .generic import VERSIONS, Cursor, Declined, Section, require
from .metadata import INT64, MOST_SCHEMA_BYTES

Ints = npt.NDArray[np.int64]
VARIABLE = 2**32 - 1
"""The "Cell val num" of values of variable length."""

Range = tuple[str, int, int]
"""Of a file, by its path below the array: from one byte to another."""

Rows = tuple[int, int] | Ints | None
"""Rows of an array: all, those from one to another, or some that increase."""


@dataclass(frozen=True)
class _Field:
    """A dimension or an attribute: the number of its sections in a footer, and the names of its files."""

    number: int
    fixed: str
    variable: str
    validity: str


def _fields(data: bytes) -> dict[str, tuple[str, int, bool, bool]]:
    """Read the "Array Schema File": of each field "d" or "a", its number, whether it varies in length, may be null."""
    section = Section.of(data)
    require(section.size <= MOST_SCHEMA_BYTES, f"its schema has {section.size:,} bytes")
    c = Cursor(section.between(0, section.size))
    version, _, kind, _, _, _ = c.take("IBBBBQ")
    require(version in VERSIONS, f"its schema has format version {version}, which is not among those compared")
    require(kind == 1, "it is dense")
    for _ in range(3):  # "Coords filters", "Offsets filters", "Validity filters"
        c.filters()
    found = {}
    for number in range(c.take("I")):  # "Num dimensions"
        name = c.text()
        datatype, n = c.take("BI")
        require((datatype, n) == (INT64, 1), f"the dimension {name!r} is not one int64 a cell")
        c.filters()
        c.skip(c.take("Q"))  # "Domain"
        if c.take("B") == 0:  # "Null tile extent"
            c.skip(8)
        found[name] = ("d", number, False, False)
    for number in range(c.take("I")):  # "Num attributes"
        name = c.text()
        _, n = c.take("BI")
        c.filters()
        c.skip(c.take("Q"))  # "Fill value"
        nullable, _ = c.take("BB")
        if version >= 17:
            c.take("B")  # "Order"
        if version >= 20:
            c.text()  # the name of an enumeration
        found[name] = ("a", number, n == VARIABLE, bool(nullable))
    return found


class FragmentLayout:
    """The tiles of one fragment, and where each field has them.

    Parameters
    ----------
    folder
        Below the array.
    fields
        As the schema of the fragment has them.
    data
        Its `__fragment_metadata.tdb`.
    """

    def __init__(self, folder: str, schemas: Mapping[str, bytes], data: bytes) -> None:
        self.folder, self.data = folder, data
        require(len(data) >= 8, "its fragment metadata is empty")
        length = struct.unpack("<Q", data[-8:])[0]  # "Footer length"
        require(length <= len(data) - 8, "the footer of its fragment is longer than the file")
        c = Cursor(data[: len(data) - 8], len(data) - 8 - length)
        version = c.take("I")
        require(version in VERSIONS, f"its fragment has format version {version}, which is not among those compared")
        schema = c.text("Q")
        require(schema in schemas, "the schema of its fragment is not there")
        self.fields = _fields(schemas[schema])
        n_dims = sum(kind == "d" for kind, *_ in self.fields.values())
        n_attributes = len(self.fields) - n_dims
        dense, empty = c.take("BB")  # "Dense", "Null non-empty domain"
        require((dense, empty) == (0, 0), "its fragment is dense or empty")
        c.skip(16 * n_dims)  # "Non-empty domain"
        self.n_tiles, _ = c.take("QQ")
        require(0 < self.n_tiles < 1 << 32, "its fragment has no tiles")
        timestamps, deletes = c.take("BB")
        require(timestamps < 2 and deletes == 0, "its fragment holds deleted cells")
        n = n_attributes + 1 + n_dims + timestamps
        self._files, self._var_files, self._validity_files = (self._row(c, n) for _ in range(3))
        rtree = c.take("Q")
        self._offsets, self._var_offsets, _, self._validity = (self._row(c, n) for _ in range(4))
        self._numbers = {
            name: (number if kind == "a" else n_attributes + 1 + number)
            for name, (kind, number, *_) in self.fields.items()
        }
        self.timestamps = n - 1 if timestamps else None
        self._kept: dict[int, Ints] = {}
        self.first, self.last = self._rows(rtree, n_dims)

    @staticmethod
    def _row(c: Cursor, n: int) -> tuple[int, ...]:
        values = c.take(f"{n}Q")
        return values if n > 1 else (values,)

    def _rows(self, place: int, n_dims: int) -> tuple[Ints, Ints]:
        """Return the first and last row of each tile: the leaves of the "R-Tree" in the first dimension."""
        section = self._section(place)
        fanout, levels = struct.unpack("<II", section.between(0, 8))
        require(0 < levels <= 64 and fanout > 1, "its R-tree is odd")
        at, n, width = 8, 0, 16 * n_dims
        for level in range(levels):
            n = int(section.numbers(at, 1, "<u8")[0])
            require(n <= self.n_tiles, "its R-tree has more leaves than tiles")
            at += 8 + (width * n if level + 1 < levels else 0)
        require(n == self.n_tiles and at + width * n == section.size, "its R-tree has not one leaf for each tile")
        boxes = section.numbers(at, 2 * n_dims * n, "<i8").reshape(n, 2 * n_dims)
        return boxes[:, 0].copy(), boxes[:, 1].copy()

    def _section(self, place: int) -> Section:
        require(place < len(self.data), "the footer of its fragment names places beyond the file")
        return Section(lambda start, stop: self.data[place + start : place + stop], len(self.data) - place)

    def _starts(self, place: int) -> Ints:
        """Return where each tile begins in a file."""
        if place not in self._kept:
            section = self._section(place)
            n = int(section.numbers(0, 1, "<u8")[0])
            require(n == self.n_tiles, "its fragment has not one offset for each tile")
            self._kept[place] = section.numbers(8, n, "<u8").astype(np.int64)
        return self._kept[place]

    def tiles(self, rows: Rows) -> Ints:
        """Return the numbers of the tiles that may hold some rows: all, those between two, or some that increase."""
        if rows is None:
            return np.arange(self.n_tiles)
        if isinstance(rows, tuple):
            return np.flatnonzero((self.last >= rows[0]) & (self.first <= rows[1]))
        return np.flatnonzero(np.searchsorted(rows, self.first) < np.searchsorted(rows, self.last, side="right"))

    def ranges(self, names: Collection[str], tiles: Ints) -> list[Range]:
        """Return where some tiles of some fields lie, neighbours joined; fields it does not have are left out."""
        found: list[Range] = []
        for name in names:
            if name not in self.fields:
                continue
            kind, number, varies, nullable = self.fields[name]
            at, file = self._numbers[name], f"{self.folder}/{kind}{number}"
            found += self._in_file(f"{file}.tdb", self._files[at], self._offsets[at], tiles)
            if varies:
                found += self._in_file(f"{file}_var.tdb", self._var_files[at], self._var_offsets[at], tiles)
            if nullable:
                found += self._in_file(f"{file}_validity.tdb", self._validity_files[at], self._validity[at], tiles)
        if self.timestamps is not None:
            at = self.timestamps
            found += self._in_file(f"{self.folder}/t.tdb", self._files[at], self._offsets[at], tiles)
        return found

    def _in_file(self, path: str, size: int, place: int, tiles: Ints) -> list[Range]:
        if not len(tiles):
            return []
        starts = self._starts(place)
        stops = np.append(starts[1:], size)
        require(bool((starts <= stops).all()), "the offsets of its tiles do not increase")
        edges = np.flatnonzero(np.diff(tiles) > 1) + 1
        first, last = tiles[np.concatenate([[0], edges])], tiles[np.append(edges - 1, len(tiles) - 1)]
        ends = zip(starts[first].tolist(), stops[last].tolist(), strict=True)
        return [(path, start, stop) for start, stop in ends if stop > start]


def layouts(files: Mapping[str, int], read: Mapping[str, bytes]) -> list[FragmentLayout]:
    """Return the layout of every fragment of an array.

    Parameters
    ----------
    files
        The size of every file, by its path below the array.
    read
        The content of its schemas and of the metadata of its fragments.

    Raises
    ------
    Declined
        If something about it is not known.
    """
    schemas = {path.rpartition("/")[2]: data for path, data in read.items() if is_schema(path)}
    found = []
    try:
        for folder in fragment_folders(files):
            inside = {path.rpartition("/")[2] for path in files if path.startswith(f"{folder}/")}
            require(not inside & {"dt.tdb", "dci.tdb"}, "its fragment holds deleted cells")
            found.append(FragmentLayout(folder, schemas, read[f"{folder}/__fragment_metadata.tdb"]))
    except (struct.error, zlib.error, ValueError, OverflowError, KeyError, IndexError, MemoryError) as error:
        raise Declined(f"its metadata is not understood ({type(error).__name__}: {error})") from error
    return found


def fragment_folders(files: Mapping[str, int]) -> Sequence[str]:
    """Return the folders of the fragments of an array, in order of time."""
    return sorted({"/".join(path.split("/")[:2]) for path in files if path.startswith("__fragments/")})


def is_schema(path: str) -> bool:
    """Return whether a file of an array is a schema of it."""
    return path.startswith("__schema/") and "/__enumerations/" not in path


def is_data(path: str) -> bool:
    """Return whether a file of an array holds tiles; all others are small, and TileDB reads them when it opens it."""
    return "__fragments/" in path and not path.endswith("/__fragment_metadata.tdb")

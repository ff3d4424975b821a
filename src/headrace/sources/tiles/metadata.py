"""TileDB's metadata: the array schema, the fragment's footer, R-tree and tile offsets.

Names in quotation marks are those of TileDB's format specification. All numbers are little-endian. Whatever is not
exactly as it is described there, or not of the kind that the loops in `decode` read, is `Declined` with a reason.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .generic import VERSIONS, Cursor, Section, require

ZSTD, BYTESHUFFLE = 2, 9  # "Filter type"
INT64, FLOAT32 = 1, 2  # "Datatype"
CHUNK_BYTES = 1 << 18
"""The largest "Max chunk size" that is read; TileDB's own is 64 KiB."""
MOST_CELLS = 1 << 20
"""The largest "Capacity" that is read; the Census has 65,536, tiledbsoma's default is 100,000."""
MOST_SCHEMA_BYTES = 1 << 20
NAMES = ("soma_dim_0", "soma_dim_1", "soma_data")
"""Of rows, columns and values, by the SOMA specification."""


@dataclass(frozen=True)
class Schema:
    """What an "Array Schema File" says; two are equal if they store cells alike."""

    duplicates: bool
    capacity: int
    extents: tuple[int, int]
    shuffled: tuple[bool, bool, bool]
    """Of rows, columns and values: whether byteshuffle comes before zstd."""
    chunk_bytes: int

    @staticmethod
    def parse(data: bytes) -> Schema:
        """Read the "Array Schema File", or decline."""
        section = Section.of(data)
        require(section.size <= MOST_SCHEMA_BYTES, f"its schema has {section.size:,} bytes")
        c = Cursor(section.between(0, section.size))
        # "Array version", "Allows dups", "Array type", "Tile order", "Cell order", "Capacity"
        version, duplicates, kind, tile_order, cell_order, capacity = c.take("IBBBBQ")
        require(version in VERSIONS, f"its schema has format version {version}, which is not among those compared")
        require(kind == 1, "it is dense")
        require((tile_order, cell_order) == (0, 0), "its tiles or cells are not in row-major order")
        require(0 < capacity <= MOST_CELLS, f"its tiles hold {capacity:,} cells")
        for _ in range(3):  # "Coords filters", "Offsets filters", "Validity filters"
            c.filters()
        n = c.take("I")  # "Num dimensions"
        require(n == 2, f"it has {n} dimensions")
        parts = [_field(c, INT64, "a dimension") for _ in range(n)]
        n = c.take("I")  # "Num attributes"
        require(n == 1, f"it has {n} attributes")
        parts.append(_field(c, FLOAT32, "the attribute"))
        c.skip(c.take("Q"))  # "Fill value"
        nullable, _ = c.take("BB")  # "Nullable", "Fill value validity"
        require(nullable == 0, "its values may be null")
        if version >= 17:
            require(c.take("B") == 0, "its values are said to be ordered")  # "Order"
        if version >= 20:
            require(c.take("I") == 0, "its values are an enumeration")  # the name of an enumeration
        if version >= 18:
            require(c.take("I") == 0, "it has dimension labels")  # "Num labels"
        if version >= 20:
            require(c.take("I") == 0, "it has enumerations")  # their number
        # "CurrentDomain": "Version number", "Empty"; then "Type", "NDRectangle"
        if version >= 22 and c.take("IB")[1] == 0:
            require(c.take("B") == 0, "its current domain is no rectangle")
            c.take("4q")
        require(c.at == len(c.data), "its schema says more than is known of this format version")
        names = tuple(part.name for part in parts)
        require(names == NAMES, f"its fields are {', '.join(names)}, not {', '.join(NAMES)}")
        return Schema(
            bool(duplicates),
            capacity,
            (parts[0].extent, parts[1].extent),
            tuple(part.shuffled for part in parts),  # type: ignore[arg-type] # there are three
            max(part.chunk_bytes for part in parts),
        )


@dataclass(frozen=True)
class _Field:
    name: str
    shuffled: bool
    chunk_bytes: int
    extent: int


def _field(c: Cursor, datatype: int, what: str) -> _Field:
    """Read the beginning of an "Attribute", or a whole "Dimension"."""
    name = c.text()
    kind, n = c.take("BI")  # "Dimension datatype", "Cell val num"
    expected = "int64" if datatype == INT64 else "float32"
    require((kind, n) == (datatype, 1), f"{what} {name!r} is not one {expected} a cell")
    filters, size = c.filters()
    require(filters in ([ZSTD], [BYTESHUFFLE, ZSTD]), f"{name!r} is stored with the filters {filters}")
    require(0 < size <= CHUNK_BYTES, f"{name!r} is stored in chunks of {size:,} bytes")
    extent = 0
    if datatype == INT64:
        require(c.take("Q") == 16, f"{what} {name!r} has no domain of two int64")  # "Domain size"
        require(c.take("qq")[0] == 0, f"{what} {name!r} does not begin at 0")  # "Domain"
        require(c.take("B") == 0, f"{what} {name!r} has no tile extent")  # "Null tile extent"
        extent = c.take("q")  # "Tile extent"
        require(extent > 0, f"{what} {name!r} has a tile extent of {extent}")
    return _Field(name, filters != [ZSTD], size, extent)


@dataclass(frozen=True)
class Footer:
    """What the "Footer" of `__fragment_metadata.tdb` says."""

    schema: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    n_tiles: int
    last_cells: int
    timestamps: bool
    file_sizes: tuple[int, int, int]
    """Of the files of rows, columns and values."""
    rtree: int
    offsets: tuple[int, int, int]
    conditions: int
    sections: tuple[int, ...] = field(repr=False)
    """Where each section begins; and at last the footer."""

    @staticmethod
    def parse(data: bytes, size: int, version: int) -> Footer:
        """Read the footer at the end of a file of `size` bytes, given the end of the file, or decline."""
        require(len(data) >= 8, "its fragment metadata is empty")
        length = struct.unpack("<Q", data[-8:])[0]  # "Footer length"
        require(length <= len(data) - 8, "the footer of its fragment is longer than the file")
        c = Cursor(data[: len(data) - 8], len(data) - 8 - length)
        found = c.take("I")  # "Version number"
        require(
            found == version in VERSIONS, f"its fragment has format version {found}, which is not among those compared"
        )
        schema = c.text("Q")
        dense, empty = c.take("BB")  # "Dense", "Null non-empty domain"
        require((dense, empty) == (0, 0), "its fragment is dense or empty")
        r0, r1, c0, c1 = c.take("4q")  # "Non-empty domain"
        require(0 <= r0 <= r1 < 2**62 and 0 <= c0 <= c1 < 2**31, "its coordinates are negative or too large")
        n_tiles, last = c.take("QQ")  # "Number of sparse tiles", "Last tile cell num"
        timestamps, deletes = c.take("BB")  # "Includes timestamps", "Includes delete metadata"
        require(timestamps < 2 and deletes == 0, "its fragment holds deleted cells")
        n = 4 + timestamps  # the attribute, a place that is not used, two dimensions, perhaps the timestamps
        files, var_files, validity_files = (c.take(f"{n}Q") for _ in range(3))
        require(not any(var_files) and not any(validity_files), "it holds values of variable length, or null")
        rtree, offsets = c.take("Q"), c.take(f"{n}Q")
        others = c.take(f"{7 * n}Q")  # var offsets and sizes, validity, min, max, sum, null count
        statistics, conditions = c.take("QQ")
        require(c.at == len(c.data), "the footer of its fragment says more than is known of this format version")
        footer = size - 8 - length
        sections = tuple(sorted({rtree, *offsets, *others, statistics, conditions, footer}))
        require(sections[-1] == footer, "the footer of its fragment names places beyond the file")
        return Footer(
            schema, (r0, r1), (c0, c1), n_tiles, last, bool(timestamps), (files[2], files[3], files[0]),
            rtree, (offsets[2], offsets[3], offsets[0]), conditions, sections,
        )  # fmt: skip

    def end(self, start: int) -> int:
        """Return where the section that begins at `start` ends."""
        return next((other for other in self.sections if other > start), start)


def leaves(section: Section, n_tiles: int) -> int:
    """Return where the leaves of the "R-Tree" begin: one "MBR" of two int64 a dimension for each tile."""
    fanout, levels = struct.unpack("<II", section.between(0, 8))
    at, n = 8, 0
    require(0 < levels <= 64 and fanout > 1, "its R-tree is odd")
    for level in range(levels):
        n = int(section.numbers(at, 1, "<u8")[0])
        require(n <= n_tiles, "its R-tree has more leaves than tiles")
        at += 8
        if level + 1 < levels:
            at += 32 * n
    require(n == n_tiles and at + 32 * n == section.size, "its R-tree has not one leaf for each tile")
    return at


def blocks(n: int, step: int = 1 << 16) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive pieces of n things."""
    for start in range(0, n, step):
        yield start, min(n, start + step)

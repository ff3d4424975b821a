"""TileDB's generic tiles, of which its metadata files are made: numbers and texts one after another, gzipped in chunks.

Names in quotation marks are those of TileDB's format specification. All numbers are little-endian. Whatever is not
exactly as it is described there is `Declined` with a reason.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

GZIP = 1  # "Filter type"
VERSIONS = range(16, 23)
"""Format versions whose files were compared with what TileDB reads."""


class Declined(Exception):  # noqa: N818 # not a failure: TileDB reads instead
    """The array has to be read by TileDB; the message says why."""


def require(condition: bool, reason: str) -> None:
    """Raise `Declined` with the reason unless the condition holds."""
    if not condition:
        raise Declined(reason)


class Cursor:
    """Takes numbers and bytes from a buffer, one after another; `Declined` where it ends."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, layout: str) -> Any:
        """Return the numbers of a `struct` layout: one alone, or a tuple."""
        values = struct.unpack("<" + layout, self.skip(struct.calcsize("<" + layout)))
        return values[0] if len(values) == 1 else values

    def skip(self, n: int) -> bytes:
        """Return the next n bytes."""
        require(0 <= n <= len(self.data) - self.at, "a metadata file of it is shorter than it says")
        self.at += n
        return bytes(self.data[self.at - n : self.at])

    def text(self, length: str = "I") -> str:
        """Return a text that follows its length."""
        return self.skip(self.take(length)).decode("utf-8", "replace")

    def filters(self) -> tuple[list[int], int]:
        """Read a "Filter Pipeline": the types of its filters, and its "Max chunk size"."""
        size, n = self.take("II")
        kinds = []
        for _ in range(min(n, 256)):
            kind, length = self.take("BI")  # "Filter type", "Filter metadata size"
            self.skip(length)
            kinds.append(kind)
        return kinds, size


class Section:
    """A "Generic Tile" whose chunks are decompressed when they are needed.

    Parameters
    ----------
    read
        Gives the bytes from one place to another within the generic tile.
    size
        How many bytes there are from its beginning, perhaps others behind it.
    held
        Whether what `read` gives is in memory.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, held: bool = True) -> None:
        self.read = read
        head = Cursor(read(0, min(size, 4096)))
        # "Version number", "Persisted size", "Tile size", "Datatype", "Cell size", "Encryption type", "Pipeline size"
        version, persisted, self.size, _, _, encryption, length = head.take("IQQBQBI")
        require(encryption == 0, "it is encrypted")
        require(version in VERSIONS, f"its metadata has format version {version}, which is not among those compared")
        start = head.at + length
        kinds, _ = head.filters()
        require(
            head.at == start and kinds == [GZIP], f"its metadata is stored with the filters {kinds}, not [1] (gzip)"
        )
        require(start + persisted <= size, "a metadata file of it is shorter than it says")
        self.chunks: list[tuple[int, int, int, int]] = []  # place in the section, place here, sizes
        self._index(start, start + persisted)
        self.kept: dict[int, bytes] = {}
        self.stored: int = (persisted if held else 0) + 32 * len(self.chunks)

    def _index(self, at: int, end: int) -> None:
        """Find the chunks of the "Tile": their number, then "original", "filtered" and "metadata" size of each."""
        place, ahead, base = 0, b"", at
        n = struct.unpack("<Q", self.read(at, at + 8))[0] if end - at >= 8 else 0
        at += 8
        while at < end and len(self.chunks) < n:
            if at + 28 > base + len(ahead):
                base, ahead = at, self.read(at, min(end, at + (1 << 20)))
            head = Cursor(ahead, at - base)
            original, filtered, meta = head.take("III")
            parts, one, big, small = head.take("IIII")  # of the compression filter: no metadata parts, one data part
            require((meta, parts, one, big, small) == (16, 0, 1, original, filtered), "its metadata has odd chunks")
            require(0 < original <= 1 << 24 and at + 28 + filtered <= end, "a metadata file of it has impossible sizes")
            self.chunks.append((place, at + 28, filtered, original))
            place, at = place + original, at + 28 + filtered
        require(
            at == end and len(self.chunks) == n and place == self.size, "a metadata file of it has impossible sizes"
        )
        self.starts = np.array([chunk[0] for chunk in self.chunks], dtype=np.int64)

    def _chunk(self, number: int) -> bytes:
        if number not in self.kept:
            _, at, size, original = self.chunks[number]
            try:
                data = zlib.decompressobj().decompress(self.read(at, at + size), original + 1)
            except zlib.error as error:
                raise Declined(f"its metadata cannot be decompressed ({error})") from None
            require(len(data) == original, "its metadata has a chunk of another size than it says")
            while len(self.kept) > 1:
                del self.kept[next(iter(self.kept))]
            self.kept[number] = data
        return self.kept[number]

    def between(self, start: int, stop: int) -> bytes:
        """Return bytes of the section, decompressed."""
        require(0 <= start <= stop <= self.size, "a metadata file of it is shorter than it says")
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        out = []
        for number in range(first, len(self.chunks)):
            place = self.chunks[number][0]
            if place >= stop:
                break
            out.append(self._chunk(number)[max(0, start - place) : stop - place])
        return b"".join(out)

    def numbers(self, start: int, n: int, dtype: str) -> npt.NDArray[Any]:
        """Return n numbers from a place on."""
        return np.frombuffer(self.between(start, start + n * np.dtype(dtype).itemsize), dtype)

    @staticmethod
    def of(data: bytes) -> Section:
        """Return the section that begins at the beginning of some bytes."""
        return Section(lambda start, stop: data[start:stop], len(data))

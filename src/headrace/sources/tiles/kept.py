"""Bytes that came from far away and are not yet of use, kept on the disk: who goes on need not fetch them again.

One file for each request, to which is appended what comes, as it comes: where it belongs, its length and checksum, and
the bytes. What is older than the last `MOST` bytes has long been decoded, and is removed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MOST = 256 << 20
"""Bytes kept: those on their way, waiting to be decoded, and in chunks that are worked on."""

FRAME = struct.Struct("<QII")
"""Where bytes belong in their file, how many they are, the CRC-32 of both and of the bytes."""

_numbers = itertools.count()


class Kept:
    """What was kept in a folder. A disk that is full or broken makes it forget, and no more.

    Parameters
    ----------
    folder
        It is made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._files: deque[tuple[Path, int]] = deque()
        self._size = 0
        self._index: dict[str, list[tuple[int, int, Path, int]]] = {}
        for path in sorted(folder.glob("*.bytes")):
            self._look(path)

    def _look(self, path: Path) -> None:
        """Note what a file of an earlier run holds."""
        found = self._index.setdefault(path.name.partition("-")[0], [])
        with suppress(OSError), path.open("rb") as file:
            at, size = 0, os.fstat(file.fileno()).st_size
            while at + FRAME.size <= size:
                start, length, _ = FRAME.unpack(file.read(FRAME.size))
                if at + FRAME.size + length > size:
                    break  # cut off
                found.append((start, start + length, path, at))
                at += FRAME.size + length
                file.seek(at)
            self._files.append((path, size))
            self._size += size

    def find(self, name: str, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield what was kept of a range of a file, where each part begins and its bytes, in order, none twice."""
        for first, last, path, at in sorted(self._index.get(_key(name), ())):
            if last <= start or first >= stop:
                continue
            try:
                with path.open("rb") as file:
                    file.seek(at)
                    _, length, checksum = FRAME.unpack(file.read(FRAME.size))
                    data = file.read(length)
            except (OSError, struct.error):
                continue
            if len(data) != last - first or _checksum(first, data) != checksum:
                continue
            data = data[max(0, start - first) : stop - first]
            begins = max(start, first)
            yield begins, data
            start = begins + len(data)

    def request(self, name: str) -> Writing:
        """Return a file for what one request brings."""
        path = self.folder / f"{_key(name)}-{os.getpid()}-{next(_numbers):08d}.bytes"
        return Writing(self, path)

    def wrote(self, path: Path, size: int) -> None:
        """Count a file, and remove the oldest ones if there are too many bytes."""
        with self._lock:
            self._files.append((path, size))
            self._size += size
            while self._size > MOST and len(self._files) > 1:
                old, n = self._files.popleft()
                self._size -= n
                with suppress(OSError):
                    old.unlink()


class Writing:
    """A file that grows while its request is answered. A context manager."""

    def __init__(self, kept: Kept, path: Path) -> None:
        self.kept, self.path, self.size = kept, path, 0
        self.fd, self.broken = -1, False

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.kept.wrote(self.path, self.size)

    def append(self, start: int, data: memoryview) -> None:
        """Keep bytes that belong at a place; nothing more after some that did not fit, which is fetched again."""
        if self.broken:
            return
        try:
            if self.fd < 0:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            wrote = os.writev(self.fd, [FRAME.pack(start, len(data), _checksum(start, data)), data])
            self.size += wrote
            self.broken = wrote < FRAME.size + len(data)
        except OSError:
            self.broken = True


def _checksum(start: int, data: bytes | memoryview) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<QI", start, len(data))))


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]

"""Files of a remote collection in a folder of this machine: fetched many at once, from the cache where it has them.

Of a file only some ranges may be here. The rest is a hole of zeros, which no tile can begin with: TileDB ends with an
error there, never with numbers.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...errors import SourceError
from ...support.cache import Cache
from ..tiles.generic import Declined
from ..tiles.layout import FragmentLayout, Range
from ..tiles.store import Object, Remote

PIECE_BYTES = 2 << 20
"""Of one request, at most."""

FLYING_BYTES = 64 << 20
"""Of all requests under way, at most."""

MOST_REQUESTS = 96


class Fetched:
    """The folder, and what is in it. Paths are from the collection's root."""

    def __init__(self, store: Remote, objects: Mapping[str, Object], cache: Cache | None) -> None:
        self.store, self.cache = store, cache
        self.objects = {path: one for path, one in objects.items() if not path.endswith("/")}
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix=f"headrace-{os.getpid()}-"))
        weakref.finalize(self, _remove, self.folder, os.getpid())
        self.group = hashlib.sha256(store.uri.encode()).hexdigest()[:16]
        self.kept: bool | None = None
        self.lock = threading.Lock()
        self.have: dict[str, list[tuple[int, int]]] = {}
        self.made: set[str] = set()
        self.layouts: dict[str, list[FragmentLayout] | Declined] = {}
        self.undecided: list[tuple[str, bytes]] = []
        """What is to be kept if it turns out that the collection is a release."""

    def fetch(self, wanted: Iterable[Range]) -> None:
        """Have some bytes of some files, all missing ones at once."""
        pieces = [piece for one in wanted for piece in _pieces(*one)]
        pieces = [piece for piece in dict.fromkeys(pieces) if not self.has(*piece) and not self._from_cache(piece)]
        if not pieces:
            return
        n = max(1, min(MOST_REQUESTS, FLYING_BYTES // max(stop - start for _, start, stop in pieces), len(pieces)))
        with ThreadPoolExecutor(n, thread_name_prefix="headrace-fetch") as pool:
            try:
                for done in [pool.submit(self._from_far, piece) for piece in pieces]:
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def has(self, path: str, start: int, stop: int) -> bool:
        """Return whether some bytes of a file are here."""
        with self.lock:
            return path in self.made and (
                start == stop or any(a <= start and stop <= b for a, b in self.have.get(path, ()))
            )

    def keep(self, title: str | None) -> None:
        """Say what the collection is, if it never changes: the cache then keeps what is fetched; else nothing of it."""
        with self.lock:
            undecided, self.undecided, self.kept = self.undecided, [], title is not None
        if self.cache is None or title is None:
            self.cache = None
            return
        self.cache.describe(self.group, title)
        for key, data in undecided:
            self.cache.put(self.group, key, data)

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Return bytes that were fetched."""
        with open(f"{self.folder}/{path}", "rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def copy(self, other: Fetched, path: str) -> None:
        """Take a whole file from another folder."""
        self._write(path, 0, other.read(path, 0, self.objects[path].size))

    def _key(self, path: str, start: int, stop: int) -> str:
        one = self.objects[path]
        return f"{path} {one.tag} {one.size} {start} {stop}" if one.tag else ""

    def _from_cache(self, piece: Range) -> bool:
        path, start, stop = piece
        if start == stop:
            self._write(path, 0, b"")
            return True
        cache, key = self.cache, self._key(*piece)
        data = cache.get(self.group, key) if cache is not None and key else None
        if data is None or len(data) != stop - start:
            return False
        self._write(path, start, data)
        return True

    def _from_far(self, piece: Range) -> None:
        path, start, stop = piece
        data = self.store.read_same(path, start, stop, self.objects[path])
        self._write(path, start, data)
        key = self._key(*piece)
        with self.lock:
            cache = self.cache
            if cache is None or not key:
                return
            if self.kept is None:
                self.undecided.append((key, bytes(data)))
                return
        cache.put(self.group, key, bytes(data))

    def _write(self, path: str, start: int, data: Any) -> None:
        where, size = f"{self.folder}/{path}", self.objects[path].size
        try:
            with self.lock:
                new = path not in self.made
                if new:
                    os.makedirs(os.path.dirname(where), exist_ok=True)
                    with open(where, "wb", buffering=0) as file:
                        if len(data) == size:
                            file.write(data)
                        else:
                            file.truncate(size)
                    self.made.add(path)
            if not (new and len(data) == size):
                with open(where, "r+b", buffering=0) as file:
                    file.seek(start)
                    file.write(data)
        except OSError as error:
            raise SourceError(
                f"cannot write what was fetched to {self.folder}: {error.strerror}; free some space, or name another "
                "folder with the environment variable TMPDIR"
            ) from error
        with self.lock:
            self.have[path] = _joined([*self.have.get(path, ()), (start, start + len(data))])


def _pieces(path: str, start: int, stop: int) -> list[Range]:
    """Cut a range into what one request is for."""
    if start == stop:
        return [(path, start, stop)]
    return [(path, at, min(at + PIECE_BYTES, stop)) for at in range(start, stop, PIECE_BYTES)]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that touch or overlap."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out


def _remove(folder: str, owner: int) -> None:
    """Remove the folder at the end, unless this is another process, made by a fork."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)

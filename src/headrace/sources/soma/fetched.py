"""Files of a remote collection in a folder of this machine: fetched many at once, from the cache where it has them.

Of a file only some ranges may be here. The rest is a hole of zeros, which no tile can begin with: TileDB ends with an
error there, never with numbers.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from ...errors import SourceError
from ...support.cache import Cache
from ...support.retry import stopping, until
from ...support.shortage import remedy
from ..tiles.generic import Declined
from ..tiles.layout import FragmentLayout, Range
from ..tiles.store import Object, Remote

PIECE_BYTES = 2 << 20
"""Of one request, at most."""

FLYING_BYTES = 64 << 20
"""Of all requests under way, at most."""

MOST_REQUESTS = 96

STOP_TICK = 0.5
"""Seconds between two looks whether what is being fetched is still wanted."""

LEFT_BEHIND = 2 * 86_400
"""Seconds after which the folder of a process that was killed goes."""

DAMAGE_TRIES, MOST_TRIES = 5, 10
"""How often the same content has to come before it is taken, whatever its tag says; and how often others."""

_MD5 = re.compile(r'"([0-9a-f]{32})"')
"""The tag that S3 gives an object that was written in one part: mostly the MD5 sum of its content."""

_PREFIX = "headrace-far-"


class Fetched:
    """The folder, and what is in it. Paths are from the collection's root."""

    def __init__(self, store: Remote, objects: Mapping[str, Object], cache: Cache | None) -> None:
        self.store, self.cache = store, cache
        self.objects = {  # and none that would be written outside the folder
            path: one for path, one in objects.items() if not path.endswith("/") and ".." not in path.split("/")
        }
        _remove_left_behind()
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        weakref.finalize(self, _remove, self.folder, os.getpid())
        self.group = hashlib.sha256(store.uri.encode()).hexdigest()[:16]
        self.kept: bool | None = None
        self.lock = threading.Lock()
        self.have: dict[str, list[tuple[int, int]]] = {}
        self.made: set[str] = set()
        self.layouts: dict[str, list[FragmentLayout] | Declined] = {}
        self.doubted: set[str] = set()
        self.checksums: bool | None = None
        """Whether tags are MD5 sums, once that is known: a store that encrypts has others."""
        self.undecided: list[tuple[str, bytes]] = []
        """What is to be kept if it turns out that the collection is a release."""

    def fetch(self, wanted: Iterable[Range]) -> None:
        """Have some bytes of some files, all missing ones at once."""
        pieces = [piece for one in wanted for piece in _pieces(*one)]
        pieces = [piece for piece in dict.fromkeys(pieces) if not self.has(*piece) and not self._from_cache(piece)]
        if not pieces:
            return
        n = max(1, min(MOST_REQUESTS, FLYING_BYTES // max(stop - start for _, start, stop in pieces), len(pieces)))
        unwanted, stopped = stopping(), threading.Event()
        with ThreadPoolExecutor(n, thread_name_prefix="headrace-fetch") as pool:
            try:
                for done in [pool.submit(self._from_far, piece, stopped) for piece in pieces]:
                    while unwanted is not None and not done.done():
                        wait([done], STOP_TICK)
                        if unwanted.is_set():
                            stopped.set()
                    done.result()
            except BaseException:
                stopped.set()
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

    def distrust(self, below: str) -> None:
        """Forget what was fetched below a path, here and in the cache: it is damaged, and fetched again when needed."""
        with self.lock:
            self.doubted.add(below)
            for path in [path for path in self.made if path.startswith(below)]:
                self.made.discard(path)
                self.have.pop(path, None)
            for path in [path for path in self.layouts if path.startswith(below)]:
                del self.layouts[path]

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
        if any(path.startswith(below) for below in self.doubted):
            return False
        data = cache.get(self.group, key) if cache is not None and key else None
        if data is None or len(data) != stop - start:
            return False
        self._write(path, start, data)
        return True

    def _from_far(self, piece: Range, stopped: threading.Event) -> None:
        path, start, stop = piece
        with until(stopped):
            data = self._checked(path, start, stop)
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

    def _checked(self, path: str, start: int, stop: int) -> Any:
        """Fetch a range; of a whole object the checksum is compared, if the tag of the listing is one."""
        one = self.objects[path]
        data = self.store.read_same(path, start, stop, one)
        tag = _MD5.match(one.tag)
        if tag is None or (start, stop) != (0, one.size) or self.checksums is False:
            return data
        found, alike = _md5(data), 1
        for _ in range(MOST_TRIES):
            if found == tag[1]:
                self.checksums = True
                return data
            again = self.store.read_same(path, start, stop, one, anew=True)
            alike = alike + 1 if _md5(again) == found else 1
            data, found = again, _md5(again)
            if alike == (2 if self.checksums is None else DAMAGE_TRIES):  # its tag is no checksum
                self.checksums = bool(self.checksums)
                return data
        raise SourceError(
            f"{self.store.uri}/{path} comes damaged, each time otherwise; check the network and the proxy"
        )

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
                f"cannot write what was fetched to {self.folder}: {error.strerror}; "
                + remedy(error, "free some space, or name another folder with the environment variable TMPDIR")
            ) from error
        with self.lock:
            self.have[path] = _joined([*self.have.get(path, ()), (start, start + len(data))])


def _md5(data: Any) -> str:
    return hashlib.md5(memoryview(data), usedforsecurity=False).hexdigest()


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


def _remove_left_behind() -> None:
    """Remove folders of processes that are gone and were killed, long ago: others may be in another container."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        with suppress(OSError, ValueError):
            owner = int(path.name.removeprefix(_PREFIX).partition("-")[0])
            if time.time() - path.stat().st_mtime > LEFT_BEHIND and not psutil.pid_exists(owner):
                shutil.rmtree(path, ignore_errors=True)


def _remove(folder: str, owner: int) -> None:
    """Remove the folder at the end, unless this is another process, made by a fork."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)

"""Where the files of an array are: listed with their sizes, and read by ranges of bytes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from ...errors import ContradictionError, SourceError
from ...support.faults import failure
from ...support.retry import call
from ...support.shortage import files_remedy
from ...traffic import Traffic
from .generic import Declined
from .kept import Kept
from .settings import azure_options, gcs_options, s3_options

PART, LEAST_PART = 1 << 16, 1 << 13
"""Bytes of an answer that are taken note of, and kept, at once: the less the slower the line is."""

PARTS_A_SECOND = 1000

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Object:
    """What a listing says of an object: its size, and a tag that changes with its content; "" if nothing does."""

    size: int
    tag: str


@dataclass(frozen=True)
class _Wanted:
    """An object to read: the name under which its bytes are kept, and what is known of it."""

    path: str
    name: str
    known: Object | None = None


class Store(Protocol):
    """Files below one place, addressed by their paths from there."""

    remote: bool
    """Whether each request takes long enough that many have to be under way."""

    def list(self) -> dict[str, int]:
        """Return the path and size in bytes of every file."""

    def read(self, path: str, start: int, stop: int) -> Bytes:
        """Return bytes of a file. Safe in several threads at once.

        Raises
        ------
        SourceError
            If the file cannot be read, or ends before `stop`.
        """

    def ready(self, wanted: Sequence[tuple[str, int, int]]) -> bool:
        """Have ranges (path, start, stop) where reading them again costs little; return whether that can be."""


class Local:
    """Files in a folder."""

    remote = False

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def list(self) -> dict[str, int]:
        """Return the path and size in bytes of every file."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, self.folder).replace(os.sep, "/")] = os.path.getsize(path)
        return found

    def ready(self, wanted: Sequence[tuple[str, int, int]]) -> bool:
        """Return True: they are on this machine."""
        return True

    def read(self, path: str, start: int, stop: int) -> Bytes:
        """Return bytes of a file."""
        where = f"{self.folder}/{path}"
        out = np.empty(stop - start, dtype=np.uint8)
        got = 0
        try:
            with open(where, "rb", buffering=0) as file:
                file.seek(start)
                while got < len(out):
                    n = file.readinto(out[got:].data)
                    if not n:
                        break
                    got += n
        except OSError as error:
            more = files_remedy(error)
            raise SourceError(f"cannot read {where}: {error.strerror}" + (f"; {more}" if more else "")) from error
        if got < len(out):
            raise SourceError(f"{where} ends at byte {start + got:,}: it is cut off; copy it again")
        return out


class Remote:
    """Objects below a prefix of a bucket, by obstore; what may pass is tried again by it, and then here."""

    remote = True

    def __init__(self, store: Any, prefix: str, uri: str, traffic: Traffic) -> None:
        import obstore
        from obstore.exceptions import BaseError

        self.store, self.prefix, self.uri, self.traffic = store, prefix.strip("/"), uri, traffic
        self._keeping: Kept | None = None
        self._lock = threading.Lock()
        self._obstore, self._errors = obstore, (BaseError, OSError)  # what is not there is a FileNotFoundError

    def list(self) -> dict[str, int]:
        """Return the path and size in bytes of every object, by one recursive listing."""
        return {path: one.size for path, one in self.objects().items()}

    def objects(self, under: str = "", deep: bool = True, most: int | None = None) -> dict[str, Object]:
        """Return what there is below a path: everything, or without what lies in folders further down.

        Raises
        ------
        Declined
            If there are more objects than `most`.
        LineError
            If it cannot be listed.
        """
        n, prefix = len(self.prefix) + 1, f"{self.prefix}/{under}".rstrip("/") + "/"

        def ask() -> dict[str, Object]:
            found: dict[str, Object] = {}
            with self._told(f"listing {self.uri}"):
                pages: Any = [] if deep else [self._obstore.list_with_delimiter(self.store, prefix)["objects"]]
                for page in self._obstore.list(self.store, prefix) if deep else pages:
                    for one in page:
                        tag = f"{one['e_tag']} {one['last_modified'].timestamp()}" if one["e_tag"] else ""
                        found[one["path"][n:]] = Object(one["size"], tag)
                    if most is not None and len(found) > most:
                        raise Declined(f"there are more than {most:,} objects")
            return found

        return call(self.traffic, f"a list of {self.uri}", ask)

    def ready(self, wanted: Sequence[tuple[str, int, int]]) -> bool:
        """Return False: each time is a request."""
        return False

    def read_same(self, path: str, start: int, stop: int, known: Object, anew: bool = False) -> Bytes:
        """Return bytes of an object, if it is still the one that was listed; `anew` also what had come before.

        Raises
        ------
        SourceError
            If it cannot be read, or was written anew.
        """
        out = np.empty(stop - start, dtype=np.uint8)
        kept = None if anew or not known.tag else self._kept()
        self._read(_Wanted(path, f"{self.uri}/{path} {known.tag} {known.size}", known), start, stop, out, kept)
        return out

    def read(self, path: str, start: int, stop: int) -> Bytes:
        """Return bytes of an object; those that an earlier run has kept are not fetched again."""
        out = np.empty(stop - start, dtype=np.uint8)
        self._read(_Wanted(path, f"{self.uri}/{path}"), start, stop, out, self._kept())
        return out

    def _read(self, wanted: _Wanted, start: int, stop: int, out: Bytes, kept: Kept | None) -> None:
        """Take what was kept of a range, and fetch the rest."""
        at = start
        for begins, data in () if kept is None else kept.find(wanted.name, start, stop):
            self._fetch(wanted, at, begins, out[at - start : begins - start], kept)
            at = begins + len(data)
            out[begins - start : at - start] = np.frombuffer(data, dtype=np.uint8)
        self._fetch(wanted, at, stop, out[at - start :], kept)

    def _fetch(self, wanted: _Wanted, start: int, stop: int, out: Bytes, kept: Kept | None) -> None:
        """Fetch a range as it comes; what fails is asked for again from where it failed."""
        path, known, at = wanted.path, wanted.known, start

        def ask() -> None:
            nonlocal at
            begun, first = time.monotonic(), at
            with ExitStack() as stack:
                writing = None if kept is None else stack.enter_context(kept.request(wanted.name))
                stack.enter_context(self._told(f"reading {self.uri}/{path}"))
                answer = self._obstore.get(self.store, f"{self.prefix}/{path}", options={"range": (at, stop)})
                tag = answer.meta["e_tag"]
                if known is not None and known.tag and tag is not None and tag != known.tag.partition(" ")[0]:
                    raise ContradictionError(f"{self.uri}/{path} was written anew while it was read; open it again")
                for part in answer.stream(min_chunk_size=self._part()):
                    data = memoryview(part)[: stop - at]
                    out[at - start : at - start + len(data)] = np.frombuffer(data, dtype=np.uint8)
                    if writing is not None:
                        writing.append(at, data)
                    at += len(data)
                    self.traffic.arrived(len(data))
                    if at >= stop:
                        break  # how the answer ends does not matter any more
            self.traffic.answered(at - first, time.monotonic() - begun)
            if at < stop:
                raise SourceError(f"{self.uri}/{path} ends at byte {at:,}: it is cut off")

        if start < stop:
            call(self.traffic, f"{path} of {self.uri}", ask)

    def _part(self) -> int:
        """Return how many bytes of an answer to take at once: what is not taken is lost if the process is killed."""
        return int(min(max(self.traffic.rate / PARTS_A_SECOND, LEAST_PART), PART))

    def _kept(self) -> Kept | None:
        """Return where this run keeps what has come, if it does."""
        folder = self.traffic.keep
        with self._lock:
            if folder is None:
                self._keeping = None
            elif self._keeping is None or self._keeping.folder != folder:
                self._keeping = Kept(folder)
            return self._keeping

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn an error of obstore within the block into one of ours."""
        try:
            yield
        except self._errors as error:
            first = str(error).strip().split("\n")[0]  # without the source lines that obstore appends
            raise failure(what, error) or SourceError(
                f"while {what}: {first}; check the network and the proxy"
            ) from error


def open_store(uri: str, config: Mapping[str, str], traffic: Traffic | None = None) -> Store:
    """Return the store of an array, or decline.

    Parameters
    ----------
    uri
        Of the array: a path, `file://`, `s3://`, `gs://`, `gcs://` or `azure://`.
    config
        TileDB settings that differ from TileDB's defaults, as text.
    traffic
        Where to count what comes from far away, and for how long to try again.

    Raises
    ------
    Declined
        If TileDB could reach something there that this could not, or reach it otherwise.
    """
    scheme, _, rest = uri.partition("://")
    if not rest or scheme == "file":
        path = rest if scheme == "file" else uri
        return Local(path[1:] if os.name == "nt" and path[:1] == "/" else path)
    traffic = traffic or Traffic()
    parts = urlsplit(uri)
    bucket, prefix = parts.netloc, parts.path
    if scheme == "s3":
        from obstore.store import S3Store

        return Remote(S3Store(bucket, **s3_options(config, os.environ)), prefix, uri, traffic)
    if scheme in ("gs", "gcs"):
        from obstore.store import GCSStore

        return Remote(GCSStore(bucket, **gcs_options(config)), prefix, uri, traffic)
    if scheme == "azure":
        from obstore.store import AzureStore

        return Remote(AzureStore(bucket, **azure_options(config)), prefix, uri, traffic)
    raise Declined(f"addresses of {scheme}:// are read by TileDB alone")


def read_many(store: Store, wanted: Sequence[tuple[str, int, int]]) -> list[Bytes]:
    """Read several ranges (path, start, stop), at once if they are far away."""
    if not store.remote or len(wanted) < 2:
        return [store.read(*one) for one in wanted]
    with ThreadPoolExecutor(min(16, len(wanted))) as pool:
        return list(pool.map(lambda one: store.read(*one), wanted))

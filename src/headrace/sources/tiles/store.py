"""Where the files of an array are: listed with their sizes, and read by ranges of bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from .generic import Declined
from .settings import azure_options, gcs_options, s3_options

Bytes = npt.NDArray[np.uint8]
LIST_TRIES = 4


@dataclass(frozen=True)
class Object:
    """What a listing says of an object: its size, and a tag that changes with its content; "" if nothing does."""

    size: int
    tag: str


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
            raise SourceError(f"cannot read {where}: {error.strerror}") from error
        if got < len(out):
            raise SourceError(f"{where} ends at byte {start + got:,}: it is cut off; copy it again")
        return out


class Remote:
    """Objects below a prefix of a bucket, by obstore, which tries again by itself what may pass."""

    remote = True

    def __init__(self, store: Any, prefix: str, uri: str) -> None:
        import obstore
        from obstore.exceptions import BaseError

        self.store, self.prefix, self.uri = store, prefix.strip("/"), uri
        self._obstore, self._error = obstore, BaseError

    def list(self) -> dict[str, int]:
        """Return the path and size in bytes of every object, by one recursive listing."""
        return {path: one.size for path, one in self.objects().items()}

    def objects(self, under: str = "", deep: bool = True, most: int | None = None) -> dict[str, Object]:
        """Return what there is below a path: everything, or without what lies in folders further down.

        Raises
        ------
        Declined
            If there are more objects than `most`.
        SourceError
            If it cannot be listed.
        """
        n, prefix = len(self.prefix) + 1, f"{self.prefix}/{under}".rstrip("/") + "/"
        for attempt in range(LIST_TRIES):  # obstore tries again what has no answer, but not one that is cut off
            found: dict[str, Object] = {}
            try:
                pages: Any = [] if deep else [self._obstore.list_with_delimiter(self.store, prefix)["objects"]]
                for page in self._obstore.list(self.store, prefix) if deep else pages:
                    for one in page:
                        tag = f"{one['e_tag']} {one['last_modified'].timestamp()}" if one["e_tag"] else ""
                        found[one["path"][n:]] = Object(one["size"], tag)
                    if most is not None and len(found) > most:
                        raise Declined(f"there are more than {most:,} objects")
                return found
            except self._error as error:
                if attempt + 1 == LIST_TRIES or "body" not in str(error):
                    raise SourceError(f"cannot list {self.uri}: {_first_line(error)}") from error
            time.sleep(0.2 * 2**attempt)
        raise AssertionError

    def ready(self, wanted: Sequence[tuple[str, int, int]]) -> bool:
        """Return False: each time is a request."""
        return False

    def read(self, path: str, start: int, stop: int) -> Bytes:
        """Return bytes of an object, in memory that is read-only."""
        try:
            data = self._obstore.get_range(self.store, f"{self.prefix}/{path}", start=start, end=stop)
        except self._error as error:
            raise SourceError(
                f"while reading {self.uri}/{path}: {_first_line(error)}; check the network and the proxy, and try again"
            ) from error
        return self._whole(data, path, start, stop)

    def read_same(self, path: str, start: int, stop: int, known: Object) -> Bytes:
        """Return bytes of an object, if it is still the one that was listed.

        Raises
        ------
        SourceError
            If it cannot be read, or was written anew.
        """
        try:
            found = self._obstore.get(self.store, f"{self.prefix}/{path}", options={"range": (start, stop)})
            tag, data = found.meta["e_tag"], found.bytes()
        except self._error as error:
            raise SourceError(
                f"while reading {self.uri}/{path}: {_first_line(error)}; check the network and the proxy, and try again"
            ) from error
        if known.tag and tag is not None and tag != known.tag.partition(" ")[0]:
            raise SourceError(f"{self.uri}/{path} was written anew while it was read; open it again")
        return self._whole(data, path, start, stop)

    def _whole(self, data: Any, path: str, start: int, stop: int) -> Bytes:
        out: Bytes = np.frombuffer(memoryview(data), dtype=np.uint8)
        if len(out) != stop - start:
            raise SourceError(f"{self.uri}/{path} ends at byte {start + len(out):,}: it is cut off")
        return out


def open_store(uri: str, config: Mapping[str, str]) -> Store:
    """Return the store of an array, or decline.

    Parameters
    ----------
    uri
        Of the array: a path, `file://`, `s3://`, `gs://`, `gcs://` or `azure://`.
    config
        TileDB settings that differ from TileDB's defaults, as text.

    Raises
    ------
    Declined
        If TileDB could reach something there that this could not, or reach it otherwise.
    """
    scheme, _, rest = uri.partition("://")
    if not rest or scheme == "file":
        path = rest if scheme == "file" else uri
        return Local(path[1:] if os.name == "nt" and path[:1] == "/" else path)
    parts = urlsplit(uri)
    bucket, prefix = parts.netloc, parts.path
    if scheme == "s3":
        from obstore.store import S3Store

        return Remote(S3Store(bucket, **s3_options(config, os.environ)), prefix, uri)
    if scheme in ("gs", "gcs"):
        from obstore.store import GCSStore

        return Remote(GCSStore(bucket, **gcs_options(config)), prefix, uri)
    if scheme == "azure":
        from obstore.store import AzureStore

        return Remote(AzureStore(bucket, **azure_options(config)), prefix, uri)
    raise Declined(f"addresses of {scheme}:// are read by TileDB alone")


def read_many(store: Store, wanted: Sequence[tuple[str, int, int]]) -> list[Bytes]:
    """Read several ranges (path, start, stop), at once if they are far away."""
    if not store.remote or len(wanted) < 2:
        return [store.read(*one) for one in wanted]
    with ThreadPoolExecutor(min(16, len(wanted))) as pool:
        return list(pool.map(lambda one: store.read(*one), wanted))


def _first_line(error: BaseException) -> str:
    """Return what obstore says, without the source lines that it appends."""
    return str(error).strip().split("\n")[0]

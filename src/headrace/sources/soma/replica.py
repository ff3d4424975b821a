"""A SOMA collection that is far away, opened here.

TileDB opens a collection step by step, each step a round trip, and asks for the same files in every context. Here one
listing says what there is; what is small is fetched whole, and of columns the tiles that hold the rows asked for, all
at once. TileDB then reads a folder of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import tiledbsoma as soma

from ...errors import LineError, SourceError
from ...support.cache import open_cache
from ..tiles.gate import TAIL_BYTES
from ..tiles.generic import Declined
from ..tiles.layout import FragmentLayout, Range, Rows, is_data, is_schema, layouts
from ..tiles.settings import check_settings
from ..tiles.store import Remote, open_store
from .fetched import Fetched
from .location import Location

Ranges = list[Range]
Layouts = list[FragmentLayout]

MOST_WHOLE = 64 << 20
"""Of an array whose tiles are not understood, and that is fetched whole instead."""

MOST_OBJECTS = 20_000
"""Below one path; more of them are not listed, and TileDB reads what it needs from far. The Census has some 1,000."""

TABLES = ("summary", "datasets", "organisms")


class Replica:
    """A part of the collection: what lies below one path. Parts share what was fetched.

    Parameters
    ----------
    fetched
        What all parts share.
    location
        Of this part, far away.
    path
        Of this part, below the collection.
    """

    remote = True
    """As the store of the reader of tiles."""

    def __init__(self, fetched: Fetched, location: Location, path: str = "") -> None:
        self.fetched, self.location, self.path = fetched, location, path

    def at(self, *names: str) -> Replica:
        """Return the part below."""
        return Replica(self.fetched, self.location.at(*names), "/".join((*([self.path] if self.path else []), *names)))

    def part(self, uri: str) -> Replica | None:
        """Return the part below that an object opened here is, by its URI; None if it lies elsewhere."""
        here, path = self._here(), uri.removeprefix("file://").rstrip("/")
        if path == here:
            return self
        return self.at(*path.removeprefix(f"{here}/").split("/")) if path.startswith(f"{here}/") else None

    def list(self) -> dict[str, int]:
        """Return the size of each file of this part, by its path from here."""
        start = f"{self.path}/" if self.path else ""
        return {path[len(start) :]: one.size for path, one in self.fetched.objects.items() if path.startswith(start)}

    def open(self, context: soma.SOMATileDBContext | None = None) -> Any:
        """Open this part, whose `collection` or `array` must have been fetched."""
        return replace(self.location, uri=self._here()).open(context or self.location.context())

    def fetch(self, *wanted: Ranges) -> None:
        """Have some bytes of some files here."""
        self.fetched.fetch(one for some in wanted for one in some)

    def collection(self) -> Ranges:
        """Say what opening this collection takes, without its members."""
        return self._whole(lambda path: path.startswith(("__group/", "__meta/")) or path == "__tiledb_group.tdb")

    def array(self) -> Ranges:
        """Say what opening this array takes, without its cells."""
        return self._whole(lambda path: not is_data(path))

    def table(self) -> Ranges:
        """Say what reading all of this array takes."""
        return self._whole(lambda path: True)

    def matrix(self) -> Ranges:
        """Say what the reader of tiles looks at first."""
        ends = []
        for path, start, stop in self._whole(lambda path: not is_data(path) and not path.startswith("__meta/")):
            is_long = path.endswith("/__fragment_metadata.tdb")
            ends.append((path, max(0, stop - TAIL_BYTES) if is_long else start, stop))
        return ends

    def rows(self, names: Collection[str], rows: Rows) -> Ranges:
        """Say what reading some columns of some rows of this array takes; `array` must have been fetched.

        Raises
        ------
        Declined
            If that is not known, and the array is too large to be fetched whole.
        """
        known = self._layouts()
        if isinstance(known, Declined):
            whole = self._whole(is_data)
            if sum(stop for _, _, stop in whole) > MOST_WHOLE:
                raise known
            return whole
        found = (one for layout in known for one in layout.ranges(names, layout.tiles(rows)))
        return [(self._full(path), start, stop) for path, start, stop in found]

    def distrust(self) -> None:
        """Forget what was fetched of this part, since it contradicts itself: it is fetched again when it is needed."""
        self.fetched.distrust(self.path)

    @property
    def understood(self) -> bool:
        """Whether it is known where the rows of this array lie."""
        return not isinstance(self._layouts(), Declined)

    def branch(self) -> Replica:
        """Return this array in a folder of its own: what is fetched there is gone with it, nothing is kept."""
        fetched = Fetched(self.fetched.store, self.fetched.objects, None)
        fetched.layouts = self.fetched.layouts
        for path, _, _ in self.array():
            fetched.copy(self.fetched, path)
        return Replica(fetched, self.location, self.path)

    def read(self, path: str, start: int, stop: int) -> Any:
        """Return bytes of a file: metadata from here, tiles from where they are."""
        full = self._full(path)
        if is_data(path):
            return self.fetched.store.read(full, start, stop)
        self.fetched.fetch([(full, start, stop)])
        return np.frombuffer(self.fetched.read(full, start, stop), dtype=np.uint8)

    def ready(self, wanted: Sequence[Range]) -> bool:
        """Fetch ranges of metadata, below this part."""
        self.fetched.fetch((self._full(path), start, stop) for path, start, stop in wanted)
        return True

    def _layouts(self) -> Layouts | Declined:
        found = self.fetched.layouts.get(self.path)
        if found is None:
            files = self.list()
            wanted = [path for path in files if is_schema(path) or path.endswith("/__fragment_metadata.tdb")]
            try:
                found = layouts(files, {path: self.fetched.read(self._full(path), 0, files[path]) for path in wanted})
            except Declined as declined:
                found = declined
            self.fetched.layouts[self.path] = found
        return found

    def _whole(self, wanted: Callable[[str], bool]) -> Ranges:
        return [(self._full(path), 0, size) for path, size in self.list().items() if wanted(path)]

    def _full(self, path: str) -> str:
        return f"{self.path}/{path}" if self.path else path

    def _here(self) -> str:
        return f"{self.fetched.folder}/{self.path}".rstrip("/")


def census_replica(location: Location, release: str | None) -> Replica | None:
    """List a Census and fetch its tables, in two round trips; None if TileDB has to read it from where it is.

    What is fetched of a release is kept for the next run: what was opened by release, or says when it was built. Its
    listing is not, so that what is kept belongs to what is there now, whatever was at the same address before.
    """
    parts = (("", False), ("__group", True), ("__meta", True), ("census_info", True), ("census_data", True))
    whole = _replica(location, parts)
    if whole is None or not any(path.startswith("census_data/") for path in whole.fetched.objects):
        return None
    info = whole.at("census_info")
    tables = [info.at(name).table() for name in TABLES]
    whole.fetch(whole.collection(), info.collection(), whole.at("census_data").collection(), *tables)
    built = release or _built(info)
    whole.fetched.keep(f"{built} {location.uri}" if built else None)
    return whole


def experiment_replica(location: Location) -> Replica | None:
    """List an experiment; None if TileDB has to read it from where it is. Nothing of it is kept: it may change."""
    whole = _replica(location, (("", True),))
    if whole is not None:
        whole.fetched.keep(None)
    return whole


def _replica(location: Location, parts: tuple[tuple[str, bool], ...]) -> Replica | None:
    """List some paths, with all that is below them or without, at once."""
    config = location.settings()
    try:
        check_settings(config)
        store = open_store(location.uri, config, location.traffic)
        if not isinstance(store, Remote):
            return None
        with ThreadPoolExecutor(len(parts)) as pool:
            found = list(pool.map(lambda part: store.objects(part[0], part[1], MOST_OBJECTS), parts))
        objects = {path: one for part in found for path, one in part.items()}
        return Replica(Fetched(store, objects, open_cache()), location) if objects else None
    except LineError as error:
        if error.kind == "passes":
            raise  # TileDB has no other way
        return None
    except (SourceError, Declined, OSError):
        return None  # TileDB tries, and says what is wrong


def _built(info: Replica) -> str:
    """Return the day when a Census was built, if it says so."""
    with suppress(Exception):  # whatever is wrong with it is said when it is opened
        summary = info.at("summary").open().read().concat().to_pandas()
        built = str(summary.set_index("label")["value"]["census_build_date"])
        return date.fromisoformat(built).isoformat()
    return ""

"""Members of an HDF5 file, and where and how the numbers of a dataset are stored.

Nothing outside the file is opened: links to other files, external storage and virtual datasets are
refused before HDF5 follows them, and so are filters that a plugin would have to undo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5d, h5l, h5t, h5z

from ...errors import InputError, SourceError
from ...support.heaps import check_heap
from ...support.places import look
from ...support.shortage import files_remedy
from ..foreign import refusal
from .filters import KNOWN, PACKING
from .sizes import check_pieces, fill_value

BY_LIBRARY = {4: "szip", 5: "nbit", 6: "scaleoffset"}
"""Filters that are left to HDF5, which makes up what is missing of a piece that was cut off: nobody can know it."""

PLUGINS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32026: "blosc2"}
MOST_LINKS = 16


@dataclass(frozen=True, eq=False)
class Stored:
    """Where the numbers of a dataset are. Opens nothing, and stays valid while the file stays as it is.

    Parameters
    ----------
    name
        Path of the dataset within the file.
    shape, dtype
        As in the file; booleans are uint8.
    bytes
        Bytes as stored.
    offset
        Where a contiguous dataset begins in the file, or None.
    tile
        The shape of an HDF5 chunk, or None. (It is called tile here: a chunk is some cells of a stream.)
    tiles
        Of every tile, in row-major order, shape (n, 3): offset, stored bytes, mask of filters that were left
        out. An offset of -1: never written.
    filters
        In the order in which they were applied.
    fill
        What a value is that was never written.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bytes: int
    offset: int | None = None
    tile: tuple[int, ...] | None = None
    tiles: npt.NDArray[np.int64] | None = None
    filters: tuple[int, ...] = ()
    fill: Any = 0

    @property
    def by_library(self) -> bool:
        """Whether only the HDF5 library can read it."""
        return self.offset is None and self.tiles is None

    @property
    def grid(self) -> tuple[int, ...]:
        """How many tiles there are along each axis."""
        assert self.tile is not None
        return tuple(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile, as numbers."""
        return 0 if self.tile is None else int(np.prod(self.tile, dtype=np.int64)) * self.dtype.itemsize

    @property
    def band_bytes(self) -> int:
        """Bytes of all the tiles that share a row, as numbers."""
        if self.tile is None:
            return 0
        return self.tile_bytes * int(np.prod(self.grid[1:], dtype=np.int64))

    @property
    def packed(self) -> bool:
        """Whether reading it means decompressing it."""
        return self.by_library or bool(PACKING & set(self.filters))


@dataclass(frozen=True, slots=True)
class Place:
    """A member of a file as messages name it, put into words only for one: HDF5 takes its time to say names."""

    element: Any
    below: str = ""
    before: str = ""

    def __str__(self) -> str:
        name = self.element.name or ""
        return f"{self.before}{name.rstrip('/') + self.below if self.below else name} of {self.element.file.filename}"


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Turn an error of HDF5 within the block into a `SourceError` that says what was being read."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, (SourceError, InputError)):
            raise
        detail = str(error).strip("\"'").split("\n")[0]
        raise SourceError(
            f"while reading {what}: {detail}; {files_remedy(error) or 'the file may be damaged, so copy it again'}"
        ) from error


def open_file(path: str) -> h5py.File:
    """Open an HDF5 file for reading, or say why not."""
    if "://" in path:
        raise InputError(f"{path!r} is no path; download the file, or open a Census or SOMA experiment there")
    if look(path) is None:
        raise InputError(f"there is no file {path!r}")
    if os.path.isdir(path):
        raise InputError(str(refusal(path, "no .h5ad")))
    if not os.path.isfile(path):
        raise InputError(f"{path!r} is a pipe or device; HDF5 is read here and there, so write it to a file first")
    try:
        file = h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        said = str(error)
        if "truncated" in said:
            raise SourceError(f"{path!r} is cut off ({said.split('(')[-1].rstrip(')')}); copy it again") from error
        if "signature" in said:
            raise InputError(refusal(path, "no .h5ad") or f"{path!r} is no HDF5 file, so it is no .h5ad") from None
        if "lock" in said:
            raise SourceError(f"{path!r} is open for writing elsewhere; wait until it is closed") from error
        more = files_remedy(error)
        raise SourceError(f"cannot open {path!r}: {said}" + (f"; {more}" if more else "")) from error
    try:
        with reading(path):
            check_heap(file)
    except BaseException:
        file.close()
        raise
    return file


def member(root: h5py.Group, path: str, depth: int = 0) -> Any:
    """Return the group or dataset at a path below `root`, or None. Links within the file are followed.

    Raises
    ------
    SourceError
        If a link leads to another file, or to nothing.
    """
    here = root
    for name in path.strip("/").split("/"):
        if not isinstance(here, h5py.Group):
            return None
        if not name:
            continue  # "/": all of it
        links, raw = here.id.links, name.encode("utf-8", "surrogateescape")  # as h5py decodes them
        where = Place(here, f"/{name}")
        with reading(where):
            if not links.exists(raw):
                return None
            link = links.get_info(raw)
            kind = link.type
            target = links.get_val(raw).decode() if kind == h5l.TYPE_SOFT else ""
        if kind == h5l.TYPE_SOFT:
            start = root.file if target.startswith("/") else here
            found = member(start, target, depth + 1) if depth < MOST_LINKS else None
            if found is None:
                raise SourceError(f"{where} is a link to {target!r}, where nothing is")
            here = found
        elif kind == h5l.TYPE_HARD:
            with reading(where):
                check_heap(here.file, link.u)
                here = here[name]
                _ = getattr(here, "dtype", None)  # one that has a type that h5py does not know is refused here
        else:
            raise SourceError(
                f"{where} is a link to another file; headrace reads nothing outside the file it was given. Copy it "
                "whole, e.g. anndata.read_h5ad(path).write_h5ad(new_path)"
            )
    return here


def members(group: Any) -> list[str]:
    """Return the names in a group; none if it is no group. One that is no text is a text that no member has."""
    if not isinstance(group, h5py.Group):
        return []
    with reading(Place(group)):
        return [name if isinstance(name, str) else name.decode("utf-8", "backslashreplace") for name in group]


def check_storage(dataset: h5py.Dataset, unpacked: bool = True) -> tuple[int, ...]:
    """Return the filters of a dataset, or raise `SourceError` if it cannot be read from this file alone.

    `unpacked` says whether HDF5 will unpack it, and not what is here.
    """
    where = Place(dataset)
    with reading(where):
        virtual, external = dataset.is_virtual, dataset.external
        plist = dataset.id.get_create_plist()
        filters = tuple(int(plist.get_filter(i)[0]) for i in range(plist.get_nfilters()))
    if virtual:
        raise SourceError(f"{where} is a virtual dataset, made of other files; copy it into one file first")
    if external:
        raise SourceError(f"{where} has its numbers in another file ({external[0][0]}); copy it into one first")
    for code in filters:
        if code in KNOWN or (code in BY_LIBRARY and h5z.filter_avail(code)):
            continue
        name = PLUGINS.get(code) or BY_LIBRARY.get(code) or "unknown"
        raise SourceError(
            f"{where} is compressed by filter {code} ({name}), which HDF5 has not by itself; write the file again with "
            "compression='gzip' or none, where that filter is installed (for many: import hdf5plugin)"
        )
    with reading(where):
        check_pieces(dataset, filters, where, unpacked)
    return filters


def locate(dataset: h5py.Dataset) -> Stored:
    """Find out where the numbers of a dataset are.

    Raises
    ------
    SourceError
        If they are not in this file, need a plugin, or are no numbers.
    """
    filters = check_storage(dataset, unpacked=False)
    with reading(Place(dataset)):
        return _located(dataset, filters)


def _located(dataset: h5py.Dataset, filters: tuple[int, ...]) -> Stored:
    dtype = dataset.dtype
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise SourceError(f"{dataset.name} of {dataset.file.filename} holds no numbers, but {dtype}")
    number = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    about: dict[str, Any] = {
        "name": dataset.name,
        "shape": dataset.shape,
        "dtype": number,
        "bytes": int(dataset.id.get_storage_size()),
        "filters": filters,
        "fill": number.type(fill_value(dataset)),
    }
    plain = dtype.kind == "b" or dataset.id.get_type().equal(h5t.py_create(dtype))
    if not plain or dataset.file.userblock_size or not set(filters) <= KNOWN:
        check_pieces(dataset, filters, Place(dataset))
        return Stored(**about)
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        return Stored(**about, offset=None if offset is None else int(offset))
    return Stored(**about, tile=dataset.chunks, tiles=_tiles(dataset))


def _tiles(dataset: h5py.Dataset) -> npt.NDArray[np.int64]:
    """Return offset, size and filter mask of every tile; -1 where there is none."""
    grid = [-(-n // t) for n, t in zip(dataset.shape, dataset.chunks, strict=True)]
    out = np.full((int(np.prod(grid, dtype=np.int64)), 3), -1, dtype=np.int64)

    def note(info: h5d.StoreInfo) -> None:
        place = 0
        for at, tile, n in zip(info.chunk_offset, dataset.chunks, grid, strict=True):
            if at // tile >= n:
                return  # beyond the end: the dataset was made smaller
            place = place * n + at // tile
        out[place] = info.byte_offset, info.size, info.filter_mask

    dataset.id.chunk_iter(note)
    return out

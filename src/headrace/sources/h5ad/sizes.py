"""What datasets of HDF5 take in memory, found out before they are read: a small file may ask for any amount."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ...errors import MemoryBudgetError, SourceError
from ...stats import kernels
from ...support.heaps import check_texts
from ...support.memory import LEAST_HELD, opening_limit
from .filters import FLETCHER32, KNOWN, PACKING, undone

BEST_RATIO = 1032
"""Deflate makes no more bytes of one."""

TEXT_COPIES = 4
"""How often a text is held while it is read: by HDF5, by Python, and on its way to where it is written."""

DESCRIPTOR = 16
"""Bytes of a text's length and place in a file."""

LONGEST_NAME = 1 << 16
"""Characters of a text in an attribute."""

STEP = 256
"""Rows that are read at once to learn the lengths of texts, where nothing else tells."""


@dataclass(frozen=True)
class Texts:
    """How long the texts of a dataset are, in bytes.

    Parameters
    ----------
    total
        All of them.
    block
        Those of the rows that are read at once, where they are most.
    longest
        The longest.
    """

    total: int
    block: int
    longest: int


def check_held(n_bytes: int, what: str, remedy: str = "leave it out, or look whether the file is broken") -> None:
    """Raise `MemoryBudgetError` if what is held whole while a file is opened does not fit in memory."""
    limit = opening_limit()
    if n_bytes > limit:
        raise MemoryBudgetError(
            f"{what}: held in memory, that takes about {n_bytes / 1e6:,.0f} MB, and there are {limit / 1e6:,.0f} MB "
            f"for it. Raise memory=, {remedy}"
        )


def check_names(value: Any, where: object) -> None:
    """Raise if an attribute's text is far longer than any name: HDF5 does not say how long it is before it is read."""
    texts = value.ravel() if isinstance(value, np.ndarray) and value.dtype.kind == "O" else [value]
    longest = max((len(one) for one in texts if isinstance(one, (str, bytes))), default=0)
    if longest > LONGEST_NAME:
        raise SourceError(f"{where} has a text of {longest:,} characters, which is no name; the file is broken")


def check_pieces(dataset: h5py.Dataset, filters: tuple[int, ...], where: object, unpacked: bool = True) -> None:
    """Raise if a piece of a dataset (HDF5's chunk) takes more than there is, or has another length in the file.

    HDF5 takes what is missing from whatever is in memory there, crashes over a checksum of less than nothing, and
    writes what is too much over whatever comes behind.

    Parameters
    ----------
    unpacked
        Whether HDF5 will unpack it, which looks at neither; else only a piece that may be far too large is looked at.
    """
    if dataset.chunks is None:
        return
    tile = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
    grid = int(np.prod([-(-n // t) for n, t in zip(dataset.shape, dataset.chunks, strict=True)], dtype=object))
    if dataset.dtype.kind != "O" and 24 * grid > LEAST_HELD:
        check_held(24 * grid, f"{where} is stored in {grid:,} pieces, which are listed")
    if (filters or dataset.ndim > 1) and 3 * tile > LEAST_HELD:
        check_held(3 * tile, f"{where} is stored in pieces of {tile / 1e6:,.0f} MB, each read whole")
    plain = int(np.prod(dataset.chunks, dtype=np.int64)) * _width(dataset)
    suspect: list[tuple[int, ...]] = []
    wrong: list[tuple[int, int]] = []

    def note(info: Any) -> None:
        packed = any(code in PACKING and not info.filter_mask >> k & 1 for k, code in enumerate(filters))
        checksums = sum(code == FLETCHER32 and not info.filter_mask >> k & 1 for k, code in enumerate(filters))
        if not packed and info.size != plain + 4 * checksums:
            wrong.append((info.size, plain + 4 * checksums))
        elif packed and (unpacked or info.size * BEST_RATIO > max(4 * plain, opening_limit())):
            suspect.append(info.chunk_offset)

    if set(filters) <= KNOWN:  # how long a piece of the others has to be, nothing says
        dataset.id.chunk_iter(note)
    for size, right in wrong:
        raise SourceError(f"a piece of {where} has {size:,} bytes, not {right:,}: the file is damaged")
    for at in suspect:
        _piece(dataset, at, filters, plain, where)


def _piece(
    dataset: h5py.Dataset, at: tuple[int, ...], filters: Sequence[int], expected: int, where: object
) -> npt.NDArray[np.uint8]:
    """Return a piece, unpacked, or raise `SourceError` if it has not the bytes that it should have."""
    mask, raw = dataset.id.read_direct_chunk(at)
    return undone(np.frombuffer(raw, np.uint8), mask, filters, expected, _width(dataset), where)


def has_descriptors(dataset: h5py.Dataset) -> bool:
    """Return whether it holds texts of any length, each by a `DESCRIPTOR`: what they take is known without HDF5."""
    return dataset.dtype.kind == "O" and _width(dataset) == DESCRIPTOR


def _width(dataset: h5py.Dataset) -> int:
    addresses, _ = h5py.h5i.get_file_id(dataset.id).get_create_plist().get_sizes()
    return 8 + int(addresses) if dataset.dtype.kind == "O" else int(dataset.id.get_type().get_size())


def texts_of(dataset: h5py.Dataset, block: int, where: object) -> Texts:
    """Return how long the texts of a dataset are; of variable ones their lengths are read, but not they themselves.

    Raises `SourceError` if HDF5 would never end when it reads them.

    Parameters
    ----------
    block
        Rows that are read at once.
    where
        What it is, in messages.
    """
    n = int(dataset.size or 0)
    about = h5py.check_string_dtype(dataset.dtype)
    if about is not None and about.length is not None:
        return Texts(n * about.length, min(n, block) * about.length, about.length)
    fill = _fill(dataset)
    found: dict[int, int] = {}
    written = total = longest = 0
    heaps: dict[int, int] = {}
    for first, lengths in _lengths(dataset, where, heaps):
        total, longest = total + int(lengths.sum()), max(longest, int(lengths.max(initial=0)))
        written += len(lengths)
        of = np.arange(first, first + len(lengths)) // block
        for number in range(int(of[0]), int(of[-1]) + 1) if len(of) else ():
            found[number] = found.get(number, 0) + int(lengths[of == number].sum())
    check_texts(dataset.file, heaps, lambda raw, rest: int(kernels.follow(np.frombuffer(raw, np.uint8), rest)))
    if fill and written < n:
        return Texts(total + (n - written) * fill, max(found.values(), default=0) + block * fill, max(longest, fill))
    return Texts(total, max(found.values(), default=0), longest)


def fill_value(dataset: h5py.Dataset) -> Any:
    """Return what a value is that was never written.

    It is asked for only if the file has one: of a damaged file HDF5 says so here, and crashes there.
    """
    given = dataset.id.get_create_plist().fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    return dataset.fillvalue if given else np.zeros((), dtype=dataset.dtype)[()]


def _fill(dataset: h5py.Dataset) -> int:
    value = fill_value(dataset)
    return len(value) if isinstance(value, (bytes, str)) else 0


def _lengths(
    dataset: h5py.Dataset, where: object, heaps: dict[int, int]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the lengths of the texts that are stored, with the row of the first of them, in any order.

    Where the heaps are that have them, and the longest text of each, is added to `heaps`, if HDF5 is not needed for it.
    """
    n, number = int(dataset.size or 0), dataset.id
    plist = number.get_create_plist()
    filters = [int(plist.get_filter(i)[0]) for i in range(plist.get_nfilters())]
    known = has_descriptors(dataset)
    if known and dataset.chunks is None and number.get_offset() is not None:
        offset = number.get_offset()  # from the beginning of the file, block of the user and all
        with open(dataset.file.filename, "rb") as file:
            file.seek(offset)
            for start in range(0, n, 1 << 20):
                yield start, _of_descriptors(file.read(DESCRIPTOR * min(1 << 20, n - start)), heaps)
    elif known and dataset.chunks is not None and set(filters) <= KNOWN:
        places: list[int] = []
        number.chunk_iter(lambda info: places.append(info.chunk_offset[0]))
        rows = dataset.chunks[0]
        for start in places:
            if start < n:
                raw = _piece(dataset, (start,), filters, rows * DESCRIPTOR, where)
                yield start, _of_descriptors(raw.tobytes()[: DESCRIPTOR * (n - start)], heaps)
    elif dataset.ndim and (dataset.chunks is not None or number.get_storage_size()):
        for start in range(0, n, STEP):
            yield start, np.array([len(one) for one in dataset[start : start + STEP]], dtype=np.int64)


def _of_descriptors(raw: bytes, heaps: dict[int, int]) -> npt.NDArray[np.int64]:
    kind = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
    found = np.frombuffer(raw[: len(raw) // DESCRIPTOR * DESCRIPTOR], kind)
    lengths = found["length"].astype(np.int64)
    where, number = np.unique(found["heap"], return_inverse=True)
    longest = np.zeros(len(where), dtype=np.int64)
    np.maximum.at(longest, number, lengths)
    for heap, length in zip(where.tolist(), longest.tolist(), strict=True):
        if length:
            heaps[heap] = max(length, heaps.get(heap, 0))
    return lengths

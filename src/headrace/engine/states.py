"""Values in files that other processes read: accumulators, transforms, what a plan is. Whole or not there, checksummed.

They are pickled: such a file is believed only in a folder of one's own (`support/private.py`). Arrays, and what
accumulators have put away in temporary files, lie beside the pickle: they are not copied when a file is read.
"""

from __future__ import annotations

import json
import mmap
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any

from isal.isal_zlib import crc32  # zlib's own, six times as fast

from ..errors import OutputError, PlanError, SourceError
from ..support.atomic import write_all, written_within
from ..support.private import Folder
from ..support.shortage import remedy

MAGIC = b"headrace state 1\n"
PAGE, LARGE = 4096, 1 << 16
"""Sections of so many bytes begin where a page does, so that they can go on to the disk past the system's memory."""

ALIGNED = 64
"""All others begin at a multiple of it."""


def save(folder: Folder, name: str, value: Any, of: Sequence[str | int]) -> int:
    """Write a value to a file of a folder; return its bytes.

    Parameters
    ----------
    of
        What it is of: asked for again when it is read.

    Raises
    ------
    PlanError
        If it cannot be sent to another process.
    OutputError
        If it cannot be written.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickled = dumped(value, buffers.append)
    parts: list[bytes | memoryview] = [json.dumps(list(of)).encode(), pickled, *(buffer.raw() for buffer in buffers)]
    entries = b"".join(struct.pack("<QI", len(part), crc32(part)) for part in parts)
    start = MAGIC + struct.pack("<I", len(parts)) + entries
    start += struct.pack("<I", crc32(start))
    size = len(start)
    try:
        with written_within(folder.handle, name, shared=True) as file:
            write_all(file, start)
            for part in parts:
                gap = bytes(-size % _alignment(len(part)))
                write_all(file, gap)
                write_all(file, part)
                size += len(gap) + len(part)
    except OSError as error:
        what = remedy(error, "free some space there, or choose another")
        raise OutputError(f"cannot write {name}: {error.strerror}; {what}") from error
    return size


def load(folder: Folder, name: str, of: Sequence[str | int]) -> Any:
    """Return a value; its arrays are those of the file, and may be changed without changing it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not as it was written, or of something else.
    """
    with folder.open(name) as file:
        size = file.seek(0, 2)
        view = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) if size else b"")
    sections = _sections(view)
    if json.loads(bytes(sections[0])) != list(of):
        raise ValueError(f"{name} is of another run")
    try:
        return pickle.loads(sections[1], buffers=sections[2:])
    except (AttributeError, ImportError) as error:
        raise SourceError(
            f"{error}: steps of one's own are defined in a module that every process can import"
        ) from error


def _sections(view: memoryview) -> list[memoryview]:
    at = len(MAGIC)
    if bytes(view[:at]) != MAGIC or len(view) < at + 8:
        raise ValueError("it does not begin as a state")
    (n,) = struct.unpack_from("<I", view, at)
    end = at + 4 + 12 * n
    if len(view) < end + 4 or crc32(view[:end]) != struct.unpack_from("<I", view, end)[0]:
        raise ValueError("its header is not as it was written")
    out, start = [], end + 4
    for i in range(n):
        length, checksum = struct.unpack_from("<QI", view, at + 4 + 12 * i)
        start += -start % _alignment(length)
        section = view[start : start + length]
        if len(section) != length or crc32(section) != checksum:
            raise ValueError("a checksum is wrong")
        out.append(section)
        start += length
    return out


def _alignment(length: int) -> int:
    return PAGE if length >= LARGE else ALIGNED


def dumped(value: Any, aside: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """Pickle a value; what cannot be named in a module goes along, if cloudpickle is there (dask brings it)."""
    try:
        from cloudpickle import dumps
    except ImportError:
        dumps = pickle.dumps
    try:
        return bytes(dumps(value, protocol=5, buffer_callback=aside))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise PlanError(
            f"a step or source of this plan cannot be sent to another process: {error}; define it in a module, "
            "without functions made on the way"
        ) from error

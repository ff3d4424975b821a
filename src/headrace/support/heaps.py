"""Lists of free space in HDF5 files that go round in a circle: over one HDF5 takes memory without end.

The heap that has the names of a group's members (or of external files) says where its free blocks are, each where the
next one is. HDF5 follows that list before it looks for a name, and does not notice that it was there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO

import h5py

from ..errors import SourceError

CONTINUED, GROUP, EXTERNAL = 0x10, 0x11, 0x07
"""Messages of an object's header: where there are more; the heap of a group; that of a list of external files."""

MOST_PARTS = 1000
"""Of a header. A damaged one may go on for ever."""

END = 1
"""In place of the next free block: there is none."""


def check_heap(file: Any, address: int | None = None) -> None:
    """Raise `SourceError` if the heap of an object cannot be read by HDF5, which would never end.

    Parameters
    ----------
    file
        An open HDF5 file.
    address
        Of the object's header; by default the file's own group.
    """
    plist = file.id.get_create_plist()
    about = h5py.h5o.get_info(file.id)
    sizes = tuple(int(n) for n in plist.get_sizes())
    at = int(about.addr if address is None else address)
    _check(int(about.fileno), file.filename, int(plist.get_userblock()), sizes, at)


def check_heaps(file: Any) -> None:
    """Raise `SourceError` if that is so anywhere in an open HDF5 file."""
    check_heap(file)
    todo, seen = [file["/"].id], {h5py.h5o.get_info(file.id).addr}
    while todo:
        group = todo.pop()
        for name in list(group):
            link = group.links.get_info(name)
            if link.type == h5py.h5l.TYPE_HARD and link.u not in seen:
                seen.add(link.u)
                check_heap(file, link.u)
                try:
                    element = h5py.h5o.open(group, name)
                except (KeyError, OSError, RuntimeError):
                    continue  # whoever reads it says what is wrong
                if isinstance(element, h5py.h5g.GroupID):
                    todo.append(element)


@lru_cache(maxsize=4096)
def _check(fileno: int, path: str, base: int, sizes: tuple[int, int], at: int) -> None:
    del fileno  # of this opening: what was found then is not believed of another one
    width, length = sizes
    with open(path, "rb") as file:
        for kind, body in _messages(file, base, sizes, at):
            start = {GROUP: width, EXTERNAL: 8}.get(kind)
            if start is None or len(body) < start + width:
                continue
            heap = _at(file, base + _number(body[start : start + width]), 8 + 2 * length + width)
            if heap[:4] != b"HEAP":
                continue  # HDF5 says so
            size, free, data = (_number(heap[a:b]) for a, b in _fields(8, length, length, width))
            seen: set[int] = set()
            while free != END and free + 2 * length <= size:
                if free in seen:
                    raise SourceError(
                        f"{path} is damaged: a list of free space in it goes round in a circle; copy the file again"
                    )
                seen.add(free)
                free = _number(_at(file, base + data + free, length))


def _messages(file: BinaryIO, base: int, sizes: tuple[int, int], at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the kinds and bytes of the messages of a header, of both versions, as far as they can be followed."""
    head = _at(file, base + at, 44)
    if head[:4] == b"OHDR" and len(head) == 44:
        flags = head[5]
        start = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        n, prefix = 1 << (flags & 3), 6 if flags & 4 else 4
        parts = [(at + start + n, _number(head[start : start + n]))]
    else:
        n, prefix = 0, 8
        parts = [(at + 16, _number(head[8:12]))] if head[:1] == b"\1" else []
    for place, size in parts:
        block, k = _at(file, base + place, size), 4 if n and place != parts[0][0] else 0  # after "OCHK"
        while k + prefix <= len(block):
            kind, body = (block[k], block[k + 1 : k + 3]) if n else (_number(block[k : k + 2]), block[k + 2 : k + 4])
            stop = k + prefix + _number(body)
            message = block[k + prefix : stop]
            yield kind, message
            if kind == CONTINUED and len(message) >= sum(sizes) and len(parts) < MOST_PARTS:
                parts.append((_number(message[: sizes[0]]), _number(message[sizes[0] : sum(sizes)])))
            k = stop


def _fields(start: int, *widths: int) -> list[tuple[int, int]]:
    ends = [start + sum(widths[: k + 1]) for k in range(len(widths))]
    return list(zip([start, *ends], ends, strict=False))


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _at(file: BinaryIO, place: int, n: int) -> bytes:
    """Return bytes of a file; fewer where there are not as many."""
    try:
        file.seek(place)
        return file.read(min(n, 1 << 20))
    except (OSError, OverflowError, ValueError):
        return b""

"""Heaps of HDF5 files over which the library takes memory without end, or never ends.

The heap that has the names of a group's members (or of external files) says where its free blocks are, each where the
next one is. HDF5 follows that list before it looks for a name, and does not notice that it was there before. The heaps
that have texts, those of attributes among them, are objects one after the other, each as long as it says; HDF5 does not
notice that one has no length at all, as of zeros that it has come upon by a wrong length. It also takes memory for a
text of any length before it asks the heap how long that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, BinaryIO

import h5py

from ..errors import SourceError

CONTINUED, GROUP, EXTERNAL, ATTRIBUTE = 0x10, 0x11, 0x07, 0x0C
"""Messages of an object's header: there are more; the heap of a group, of a list of external files; an attribute."""

DESCRIPTOR, OBJECT, SEQUENCE = 16, 16, 9
"""Bytes of a text's length, heap and number there; of the head of an object in a heap; the class of texts' types."""

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
            if kind == ATTRIBUTE and sizes == (8, 8):
                _check_texts(file, path, base, _heaps_of(body), follow)
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


def check_texts(file: Any, heaps: Mapping[int, int], walk: Callable[[bytes, int], int]) -> None:
    """Raise `SourceError` if HDF5 would never end in one of the heaps that have texts, or take memory for nothing.

    Parameters
    ----------
    file
        An open HDF5 file, whose addresses and lengths have 8 bytes.
    heaps
        Where they are, and the length of the longest text that is said to be there.
    walk
        `follow`, or the like of it.
    """
    with open(file.filename, "rb") as raw:
        _check_texts(raw, file.filename, int(file.id.get_create_plist().get_userblock()), heaps, walk)


def follow(raw: bytes, rest: int) -> int:
    """Follow objects of a heap from one to the next, and return how far one comes; -1: no further, and there is more.

    Parameters
    ----------
    raw
        Bytes of the heap from an object on: all, or the first of them.
    rest
        How many bytes there are to the end of the heap.
    """
    at, n = 0, min(len(raw), rest)
    while at + OBJECT <= n:
        size = _number(raw[at + 8 : at + OBJECT])
        if raw[at] or raw[at + 1]:
            size = OBJECT + (size + 7) // 8 * 8
        if not 0 < size <= rest - at:
            return -1
        at += size
    return at


def _check_texts(
    file: BinaryIO, path: str, base: int, heaps: Mapping[int, int], walk: Callable[[bytes, int], int]
) -> None:
    wrong = SourceError(f"{path} is damaged: texts in it have lengths that cannot be; copy the file again")
    for address, longest in heaps.items():
        place = base + address
        head = _at(file, place, OBJECT)
        if head[:4] != b"GCOL":
            continue  # HDF5 says so
        place, end = place + OBJECT, place + _number(head[8:])
        if longest > end - place:
            raise wrong
        while end - place >= OBJECT:
            raw = _at(file, place, end - place)
            if len(raw) < OBJECT:
                break  # HDF5 says so
            n = walk(raw, min(end - place, 1 << 62))
            if n < 0:
                raise wrong
            place += n


def _heaps_of(attribute: bytes) -> dict[int, int]:
    """Return where the heaps are that have the texts of an attribute, and the length of the longest text in each."""
    version, widths = attribute[0] if attribute else 0, [_number(attribute[k : k + 2]) for k in (2, 4, 6)]
    if version == 1:
        widths = [(n + 7) // 8 * 8 for n in widths]
    start = 9 if version == 3 else 8
    kind = attribute[start + widths[0] : start + widths[0] + 1]
    if not kind or kind[0] & 15 != SEQUENCE:
        return {}
    data = attribute[start + sum(widths) :]
    found = [data[k : k + DESCRIPTOR] for k in range(0, len(data) - DESCRIPTOR + 1, DESCRIPTOR)]
    lengths = sorted((_number(one[:4]), _number(one[4:12])) for one in found)
    return {heap: length for length, heap in lengths if length}  # the last one, which is the longest


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

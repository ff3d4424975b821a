"""zstd for compiled loops: the address of `ZSTD_decompressDCtx`, and a context for each thread.

Loops without the GIL cannot call Python, so they call the C function by its address. The library comes with a wheel
that headrace needs anyway: `numcodecs` on Linux and macOS exports zstd's own functions from its extension module, and
so does the cffi module of `zstandard`. Extension modules for Windows export nothing but their initialiser, and a build
may hide its symbols anywhere: then the address is that of a callback into `zstandard`, which gives the same bytes but
takes the GIL for every chunk of 64 KiB. Both are looked at once, with a frame whose content is known.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

_LIBRARIES = ("numcodecs.zstd", "zstandard._cffi")
_WORD, _ADDRESS = ctypes.c_size_t, ctypes.c_void_p
_DECOMPRESS = ctypes.CFUNCTYPE(_WORD, _ADDRESS, _ADDRESS, _WORD, _ADDRESS, _WORD)
_FRAME = bytes.fromhex("28b52ffd2004210000") + b"zstd"
"""The frame of the text "zstd"."""
_FAILED = ctypes.c_size_t(-1).value


@dataclass(frozen=True)
class Zstd:
    """How to decompress.

    Parameters
    ----------
    name
        Where the function comes from.
    address
        Of a function with the signature of `ZSTD_decompressDCtx`.
    library
        The C library, or None where Python does the work.
    keep
        What must stay alive as long as the address is used.
    """

    name: str
    address: int
    library: Any = None
    keep: Any = None

    def context(self) -> int:
        """Return this thread's decompression context: its address, or 0 where none is needed."""
        if self.library is None:
            return 0
        held = getattr(_local, "held", None)
        if held is None or held.library is not self.library:
            held = _local.held = _Context(self.library)
        return held.address


class _Context:
    """A `ZSTD_DCtx`, freed with the thread that it belongs to."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.address: int = library.ZSTD_createDCtx()
        if not self.address:
            raise MemoryError("zstd has no memory for a context")
        weakref.finalize(self, library.ZSTD_freeDCtx, self.address)


_local = threading.local()


@cache
def zstd() -> Zstd:
    """Return the fastest way to decompress that works here."""
    for name in _LIBRARIES:
        found = _from_library(name)
        if found is not None:
            return found
    return by_python()


def _from_library(name: str) -> Zstd | None:
    """Return zstd's own function from an extension module, if that exports it and it works."""
    try:
        spec = find_spec(name)
        library = ctypes.CDLL(spec.origin) if spec is not None and spec.origin else None
        if library is None:
            return None
        library.ZSTD_createDCtx.restype = ctypes.c_void_p
        library.ZSTD_freeDCtx.argtypes = [ctypes.c_void_p]
        address = ctypes.cast(library.ZSTD_decompressDCtx, ctypes.c_void_p).value
    except (ImportError, OSError, AttributeError, ValueError):
        return None
    found = Zstd(name, address or 0, library)
    return found if address and _works(found) else None


def by_python() -> Zstd:
    """Return a function that calls the package `zstandard`, for every chunk with the GIL."""
    import zstandard

    def decompress(_: int, out: int, room: int, data: int, size: int) -> int:
        try:
            got = zstandard.ZstdDecompressor().decompress(ctypes.string_at(data, size), max_output_size=room)
            if len(got) > room:
                return _FAILED
            ctypes.memmove(out, got, len(got))
        except Exception:  # nothing may be raised through C; the loop sees a wrong size
            return _FAILED
        return len(got)

    callback = _DECOMPRESS(decompress)
    return Zstd("zstandard, in Python", ctypes.cast(callback, ctypes.c_void_p).value or 0, keep=callback)


def _works(found: Zstd) -> bool:
    """Return whether a known frame comes out right."""
    out, frame = ctypes.create_string_buffer(8), ctypes.create_string_buffer(_FRAME)
    decompress = _DECOMPRESS(found.address)
    got = decompress(found.context(), ctypes.addressof(out), 8, ctypes.addressof(frame), len(_FRAME))
    return bool(got == 4 and out.raw[:4] == b"zstd")

"""Settings of the memory allocator: freed memory is kept for the next chunk."""

from __future__ import annotations

import ctypes
import os

from .limits import address_limits

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h


def map_little() -> None:
    """Have Arrow not reserve 1 GiB of addresses in advance where `ulimit -v` or `-d` limits them."""
    if address_limits():
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def release_freed_memory() -> None:
    """Give freed memory back to the system after all; elsewhere than on glibc it does nothing."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return
    trim(0)


def keep_freed_memory() -> None:
    """Ask glibc not to give freed memory back to the system, and to use one arena for all threads.

    A page that is fetched anew costs more than what a chunk does with it. The number of arenas is
    fixed when the first thread allocates, so this comes before numpy is imported. Elsewhere than on
    glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for setting, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 1 << 30)):
        mallopt(setting, value)

"""Memory that blocks are decoded into: used again once nobody holds anything in it.

Blocks are large and no two are of one size. On the heap they leave holes that nothing else fits into; mapped anew for
each block, every page of them would be fetched from the system again.
"""

from __future__ import annotations

import mmap
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt


class Buffers:
    """Gives arrays whose memory comes back by itself when they, and all views of them, are gone.

    Parameters
    ----------
    nbytes
        Of each piece of memory; larger arrays are made as any other. Only what is written to takes memory.

    Examples
    --------
    >>> buffers = Buffers(1 << 20)
    >>> place = buffers.array(1000, np.float32).ctypes.data  # and it is gone again
    >>> buffers.array(10, np.int32).ctypes.data == place
    True
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.free: list[mmap.mmap] = []

    def array(self, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of n values, whatever they are."""
        if not 0 < n * np.dtype(dtype).itemsize <= self.nbytes:
            return np.empty(n, dtype=dtype)
        try:
            room = self.free.pop()
        except IndexError:
            room = mmap.mmap(-1, self.nbytes)
        out = np.frombuffer(room, dtype=dtype, count=n)  # views of it hold it, as it does not own its memory
        weakref.finalize(out, self.free.append, room).atexit = False
        return out

"""Files that a source holds open, and who closes them when a run fails.

An exception keeps the frames that it went through, and these keep the source: its file would stay open for as long as
anybody looks at the exception, and HDF5 would not let the same process write it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

_closers: dict[int, weakref.WeakMethod[Any]] = {}


def opened(owner: object, close: Callable[[], None]) -> None:
    """Note that an object holds a file open, which a method of it closes; it opens it again when it needs it."""
    number = id(owner)
    _closers[number] = weakref.WeakMethod(close, lambda gone: _closers.pop(number, None))


def close_inputs(owner: object) -> None:
    """Have an object close what it holds open."""
    found = _closers.pop(id(owner), None)
    close = None if found is None else found()
    if close is not None and close.__self__ is owner:
        close()

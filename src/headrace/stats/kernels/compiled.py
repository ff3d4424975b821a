"""How loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, for good."""
    return numba.njit(function, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return] # numba has no types

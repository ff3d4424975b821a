"""What asks a source of a file, and does not keep it: the file is closed as soon as the source is gone."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

from ...protocols import Source
from ...support.inputs import close_inputs


def counts_of(source: Source[Any], again: Source[Any] | None = None) -> Callable[[str], dict[str, int]]:
    """Return `value_counts` of a source for a stream that may outlive it.

    Parameters
    ----------
    again
        The same source with nothing opened, for then; None: a copy.
    """
    alive, again = weakref.ref(source), again or copy.copy(source)

    def counts(column: str) -> dict[str, int]:
        there = alive()
        if there is not None:
            return there.value_counts(column)
        try:
            return again.value_counts(column)
        finally:
            close_inputs(again)

    return counts


def cell_names(source: Any) -> Callable[[int], str]:
    """Return what says the name of a row of an `H5adSource`, for messages about its values."""
    alive = weakref.ref(source)

    def name(row: int) -> str:
        there = alive()
        return str(row) if there is None else there._obs.name(row)

    return name

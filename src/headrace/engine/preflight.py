"""What is looked after before the first pass: a run that cannot end well does not begin."""

from __future__ import annotations

import os

from ..stats import kernels
from ..support.limits import address_limits, check_address_space, check_threads, stack_bytes
from ..support.memory import Budget, n_cores, resident
from ..support.packed import load_codec


def load(spooled: bool) -> None:
    """Load the libraries that a run needs, in the main thread: in mid-run some would not bear having no room."""
    kernels.load(everything=bool(address_limits()))
    if spooled:
        load_codec()


def check_room(budget: Budget, in_flight: int) -> None:
    """Raise our error, with figures, if the system will not let a run have its memory or its threads.

    Parameters
    ----------
    budget
        What the run is predicted to take.
    in_flight
        Chunks worked on at once.
    """
    threads = in_flight + 3 * n_cores() + 4  # workers; decoding, checksums, TileDB; what reads ahead, HDF5, the disk
    threads += os.cpu_count() or 1  # of linear algebra, where a loop is compiled in mid-run
    check_address_space(max(0, budget.peak - resident()) + threads * stack_bytes(), "this plan")
    check_threads(threads, "this run")

"""Memory as a budget: how much there is, what a plan takes, how large its chunks may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import psutil

from ..chunk import Cost, StreamSpec
from ..errors import InputError, MemoryBudgetError
from .limits import memory_limits, processors

MOST = 4 * 10**9
MIN_CHUNK_NNZ = 1 << 16
MAX_CHUNK_NNZ = 800_000

_opening: ContextVar[int | None] = ContextVar("opening", default=None)

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def parse_bytes(text: int | str) -> int:
    """Read a number of bytes.

    Examples
    --------
    >>> parse_bytes("1GB"), parse_bytes("512 MiB"), parse_bytes(1000)
    (1000000000, 536870912, 1000)
    """
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    unit = match.group(2).upper() if match else ""
    if match is None or (unit if unit in UNITS else unit + "B") not in UNITS or not 0 < float(match.group(1)) < 1e30:
        raise InputError(f"{str(text)[:99]!r} is no amount of memory; write e.g. '1GB' or '512MB'")
    return int(float(match.group(1)) * UNITS[unit if unit in UNITS else unit + "B"])


def available() -> int:
    """Return how much memory this process may use: the machine's, or the least that limits it (`memory_limits`)."""
    return min([int(psutil.virtual_memory().total), *memory_limits().values()])


def n_cores() -> int:
    """Count the processors this process may use."""
    return min(processors(), _most_cores[0])


_most_cores = [1 << 20]


def use_cores(n: int) -> None:
    """Use no more than so many processors from now on: others of the machine work beside this process."""
    _most_cores[0] = max(1, n)


def default_budget() -> int:
    """Return a quarter of what there is, at most 4 GB."""
    return min(available() // 4, MOST)


@contextmanager
def opening(memory: int | str | None) -> Iterator[None]:
    """Have what is opened within the block be refused if it would take more memory; None: what was said outside."""
    token = _opening.set(opening_budget() if memory is None else parse_bytes(memory))
    try:
        yield
    finally:
        _opening.reset(token)


def opening_budget() -> int:
    """Return the budget within which files are opened: as said, or the default."""
    return _opening.get() or default_budget()


def opening_limit() -> int:
    """Return the most bytes that anything may take that is held whole when a file is opened."""
    return max(LEAST_HELD, opening_budget() - TYPICAL - OVERHEAD)


def resident() -> int:
    """Return the bytes this process holds now."""
    return int(psutil.Process().memory_info().rss)


@dataclass(frozen=True)
class Budget:
    """How a plan divides its memory.

    Parameters
    ----------
    total
        The budget, in bytes.
    chunk_nnz
        Non-zeros per chunk.
    fixed
        Bytes that do not depend on the size of chunks: what the process holds before it starts, what
        the source and the sink buffer, statistics.
    per_nnz
        Bytes for each non-zero of a chunk, over all the chunks that are alive at once.
    held_nnz
        Non-zeros of a chunk that memory is needed for: fewer than `chunk_nnz` if all cells together have few.
    """

    total: int
    chunk_nnz: int
    fixed: int
    per_nnz: int
    held_nnz: int

    @property
    def peak(self) -> int:
        """The predicted peak of resident memory, in bytes."""
        return self.fixed + self.per_nnz * self.held_nnz


def divide(
    total: int,
    spec: StreamSpec,
    cost: Cost,
    *,
    statistics: int,
    in_flight: int,
    dense: int = 0,
    spooled: bool = False,
    once: bool = False,
    most: int = MAX_CHUNK_NNZ,
) -> Budget:
    """Choose the size of chunks.

    Parameters
    ----------
    total
        The budget, in bytes.
    spec
        What comes out of the plan, as far as it is known.
    cost
        Of reading the source.
    statistics
        Bytes of the accumulators of the largest pass.
    in_flight
        Chunks worked on at once.
    dense
        Genes of the widest dense matrix that a step makes, or 0.
    spooled
        Whether the source is read in a pass of its own, and what is written comes from the spool.
    once
        Whether it is read and written in one pass, and the spool is filled on the way.
    most
        Non-zeros per chunk if there is room.

    Raises
    ------
    MemoryBudgetError
        If not even small chunks fit; says the least budget that would do.
    """
    matrices = 1 + len(spec.layers)
    cells_per_nnz = spec.n_obs / max(1, cost.nnz)
    sink = matrices * (4 << 20) + len(spec.obs.columns) * min(1 << 20, 16 * spec.n_obs)
    fixed = OVERHEAD + TYPICAL + cost.resident + statistics + sink + spec.n_vars * 400
    # a chunk as it came, its values after a step or two and in every layer, what a kernel holds meanwhile
    worked_on = 12 + 4 * (matrices + 1) + int(2 * 4 * dense * cells_per_nnz)
    if once or not spooled:
        a_chunk = worked_on + (PACKED if once else 0)
        return _choose(total, spec, cost, in_flight, most, fixed + cost.memory, 2 * RAW + (in_flight + 1) * a_chunk)
    reading = _choose(
        total, spec, cost, in_flight, most, fixed + cost.memory, 2 * RAW + (in_flight + 1) * (RAW + PACKED)
    )
    chosen_genes = RAW + 4 * len(spec.layers)  # cut out of the chunk, so there twice
    writing = _choose(total, spec, cost, in_flight, most, fixed, (in_flight + 1) * (worked_on + chosen_genes))
    smaller = min(reading, writing, key=lambda one: one.chunk_nnz)
    both = [replace(one, chunk_nnz=smaller.chunk_nnz, held_nnz=smaller.held_nnz) for one in (reading, writing)]
    return max(both, key=lambda one: one.peak)


def _choose(total: int, spec: StreamSpec, cost: Cost, in_flight: int, most: int, fixed: int, per_nnz: int) -> Budget:
    """Choose the size of chunks, given what a pass takes beside them and for each of their non-zeros."""
    largest = max(cost.nnz // max(1, spec.n_obs) * 4, MIN_CHUNK_NNZ)
    room = (total - fixed) // per_nnz
    chunk_nnz = most
    while chunk_nnz > room and chunk_nnz > largest:
        chunk_nnz = max(
            chunk_nnz // 2, largest
        )  # few sizes, so that an interrupted run is likely to find the parts it left
    if chunk_nnz > room:
        least = fixed + per_nnz * largest
        why = f" ({cost.why})" if cost.why else ""
        given = f"{total / 1e6:.0f} MB" if total >= 10**6 else f"{total:,} bytes (a budget is written e.g. '1GB')"
        raise MemoryBudgetError(
            f"this plan cannot run in {given}: it needs at least {least / 1e6:.0f} MB, of which "
            f"{fixed / 1e6:.0f} MB are fixed{why}; raise memory, or choose fewer layers, genes or groups"
        )
    return Budget(total, chunk_nnz, fixed, per_nnz, min(chunk_nnz, cost.nnz // in_flight))


RAW = 8
"""Bytes of a non-zero as it comes: its column and its value."""

PACKED = 6
"""Bytes of a non-zero on its way into the spool."""

TYPICAL = 170 << 20
"""What a process holds in which headrace is imported, and what it needs for any plan."""

OVERHEAD = 116 << 20
"""Compiled code, thread stacks, fragments of the allocator."""

LEAST_HELD = 32 << 20
"""Bytes that may be held when a file is opened, however little memory is given: a plan refuses that itself."""

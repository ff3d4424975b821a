"""Exports to be hurt: run in children of a process that has imported everything and started no thread.

A child takes a second less than a new interpreter, so that hundreds of faults take minutes. All scripts of this
folder are run as programs, never inside pytest, which has threads and open files of its own.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported: no threads in the parent

import contextlib
import hashlib
import json
import mmap
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata.io  # noqa: F401 # all that a run imports on the way is imported here, once
import numpy as np
import pandas as pd
import tiledbsoma  # noqa: F401
from numcodecs import blosc  # noqa: F401

import headrace as hr
from headrace.cli.console import Session
from headrace.engine.spool import sections
from headrace.events import PassFinished, PassStarted
from headrace.sources.arrays import ArraySource
from headrace.sources.soma.census import CensusQuery

PART_NNZ = 60_000
"""Non-zeros per chunk at most: a small Census, and yet 11 parts of a spool."""

TWO_PASSES = (
    hr.SaveLayer("counts"),
    hr.FilterCells(min_genes=150),
    hr.FilterGenes(min_cells=5),
    hr.NormalizeTotal(1e4),
    hr.Log1p(),
    hr.HighlyVariableGenes(n_top_genes=100),
)
TWO_PASSES_CLI = (
    *("--layer", "counts", "--min-genes", "150", "--min-cells", "5"),
    *("--target-sum", "1e4", "--log1p", "--hvg", "100"),
)
ONE_PASS = (hr.SaveLayer("counts"), hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=100))


@dataclass(frozen=True)
class Case:
    """What is exported, and where there was something before."""

    name: str
    steps: Sequence[Any] = TWO_PASSES
    compression: Any = None
    old: bytes | None = None
    executor: Any = None
    checksum: bool = True
    small: bool = False
    """From `Small` instead of a Census."""

    @property
    def spooled(self) -> bool:
        """Whether the source is kept between passes."""
        return self.steps is TWO_PASSES


OLD = b"the old file" * 1000
CASES = (
    Case("two passes", TWO_PASSES),
    Case("two passes, gzip", TWO_PASSES, "gzip"),
    Case("two passes over an old file", TWO_PASSES, old=OLD),
    Case("two passes, gzip, over an old file", TWO_PASSES, "gzip", old=OLD),
    Case("two passes, one thread, over an old file", TWO_PASSES, old=OLD, executor=hr.Serial()),
    Case("one pass over an old file", ONE_PASS, old=OLD),
    Case("one pass, gzip", ONE_PASS, "gzip"),
)

READS: list[Any] = []
"""Of the source, in this process."""


@dataclass(frozen=True)
class Cells:
    """Positions of consecutive cells."""

    start: int
    stop: int


class Small(ArraySource):
    """A source in memory that is spooled as one that is far away: a run takes a tenth of a second."""

    spooled = True

    def refs(self, nnz: int) -> list[Any]:
        """Return four references."""
        del nnz
        return [Cells(start, start + 60) for start in range(0, 240, 60)]

    def read(self, refs: Sequence[Any]) -> Iterator[hr.Chunk]:
        """Yield the cells."""
        for ref, chunk in zip(refs, super().read([(ref.start, ref.stop) for ref in refs]), strict=True):
            READS.append(ref)
            yield chunk


def small() -> Small:
    """Return 240 cells x 300 genes."""
    rng = np.random.default_rng(0)
    n = 240
    columns = {
        "cell_type": pd.Categorical(rng.choice(["a", "b", "c"], n), categories=list("abcd")),
        "n": np.arange(n),
        "text": [f"cell {i}" for i in range(n)],
    }
    obs = pd.DataFrame(columns, index=pd.Index([str(i) for i in range(n)], name="soma_joinid"))
    var = pd.DataFrame({"feature_name": [f"name {i}" for i in range(300)]}, index=[f"g{i}" for i in range(300)])
    return Small(rng.poisson(1.5, (n, 300)), obs, var)


def prepare(folder: Path, census: bool = True) -> Path:
    """Get ready to fork; return the path of a small Census, which is built if it is wanted."""
    whole_refs, whole_read = CensusQuery.refs, CensusQuery.read

    def refs(self: CensusQuery, nnz: int) -> Sequence[Any]:
        return whole_refs(self, min(nnz, PART_NNZ))

    def read(self: CensusQuery, refs: Sequence[Any]) -> Iterator[hr.Chunk]:
        for ref, chunk in zip(refs, whole_read(self, refs), strict=True):
            READS.append(ref)
            yield chunk

    CensusQuery.refs, CensusQuery.read = refs, read  # type: ignore[method-assign] # the point of it
    path = folder / "census"
    if census and not path.exists():
        from headrace.testing import build_demo_census

        assert wait(fork(lambda: build_demo_census(path), folder / "build.log")) == 0
    _warm()
    limit = time.monotonic() + 5
    while (threads := _threads()) and time.monotonic() < limit:
        time.sleep(0.01)  # a thread that has been joined is listed for a moment longer
    assert not threads, f"a process with threads cannot be forked: {threads}"
    return path


def _threads() -> set[str]:
    """Return the names of this process' threads, but the first and jemalloc's own, which knows of forks."""
    names = {Path("/proc/self/comm").read_text().strip(), "jemalloc_bg_thd"}
    threads = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # it ended since it was listed
            threads.add(Path(f"/proc/self/task/{task}/comm").read_text().strip())
    return threads - names


def _warm() -> None:
    """Load compiled code, which starts no thread."""
    held = small()
    source = ArraySource(held.X, held.obs, held.var)
    with tempfile.TemporaryDirectory() as folder:
        hr.Plan(source, TWO_PASSES).write_h5ad(Path(folder) / "x.h5ad", executor=hr.Serial())


def fork(job: Callable[[], Any], log: Path) -> int:
    """Run a function in a child, its output in a file; return the child's number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        result = job()
        code = result if isinstance(result, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """Return the exit code of a child, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_patiently(child: int, results: mmap.mmap, seconds: float) -> int | None:
    """Return the exit code of a child that fills in results, or None if it adds none for too long and is ended."""
    done, since = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        now = len(results) - results[:].count(0)
        if now != done:
            done, since = now, time.monotonic()
        if time.monotonic() - since > seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.01)


class Told:
    """What a child has done so far, in memory that it shares with its parent: it outlives the child."""

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 4096)

    def clear(self) -> None:
        """Begin again."""
        self.shared[:16] = bytes(16)

    def __call__(self, event: Any) -> None:
        """Take an event of a run."""
        if isinstance(event, PassStarted):
            self.shared[0] += 1
        elif isinstance(event, PassFinished):
            self.shared[1] += 1

    def reads(self) -> None:
        """Note how much was read."""
        self.shared[2] = len(READS)

    @property
    def stage(self) -> str:
        """Where the run is."""
        begun, ended, _ = self.shared[:3]
        if not begun:
            return "before the first pass"
        return f"pass {begun}" if ended < begun else f"after pass {begun}"

    @property
    def n_reads(self) -> int:
        """Chunks read of the source."""
        return self.shared[2]


def export(case: Case, census: Path, out: Path, told: Told | None = None, spool: Path | None = None) -> int:
    """Run an export; tell what goes wrong as the command line does, and return its exit code."""
    READS.clear()
    listener = told or (lambda event: None)
    try:
        source = small() if case.small else hr.open_census(census).query("mus_musculus")
        hr.Plan(source, case.steps).write_h5ad(
            out,
            overwrite=case.old is not None,
            compression=case.compression,
            checksum=case.checksum,
            executor=case.executor,
            spool=spool,
            on_event=listener,
        )
    except Exception as error:
        return Session().ended(error)
    finally:
        if told is not None:
            told.reads()
    return 0


def sha(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class FaultError(AssertionError):
    """A fault that was not borne."""


def check_target(case: Case, out: Path, whole: str, log: Path) -> str:
    """Check what stands under the final name: nothing or the old file, or the whole new one; say which."""
    if not out.exists():
        if case.old is not None:
            raise FaultError("the old file is gone")
        return "none"
    found = out.read_bytes()
    if case.old is not None and found == case.old:
        return "old"
    if hashlib.sha256(found).hexdigest() == whole:
        return "new"
    raise FaultError(f"the file under the final name is neither old nor whole: {len(found)} bytes; {log.read_text()}")


def check_left(out: Path) -> int:
    """Check what lies beside the output; return the number of parts, all of which must be whole."""
    allowed = {out.name, f".{out.name}.partial", ".headrace-spool"}
    extra = {path.name for path in out.parent.iterdir()} - allowed
    if extra:
        raise FaultError(f"left behind: {sorted(extra)}")
    parts = list(out.parent.glob(".headrace-spool/*/*.part"))
    parts = [part for part in parts if not part.name.startswith(".")]
    for part in parts:
        try:
            sections(part.read_bytes())
        except ValueError as error:
            raise FaultError(f"{part.name} is under its final name and not whole: {error}") from error
    return len(parts)


def check_clean(out: Path) -> None:
    """Check that nothing but the output is left."""
    left = sorted(str(path.relative_to(out.parent)) for path in out.parent.rglob("*") if path != out)
    if left:
        raise FaultError(f"left behind after the last run: {left}")


def show(figures: dict[str, Any]) -> None:
    """Print figures for whoever started this program: the last line is JSON."""
    print(json.dumps(figures), flush=True)

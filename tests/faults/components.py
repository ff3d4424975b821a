"""Kill a run with principal components in each of its passes, and run it again: the same file, byte for byte.

    python tests/faults/components.py

The run is killed (SIGKILL) by its own listener: after two chunks of a pass, and when the pass has ended.
"""

from __future__ import annotations

from jobs import (  # isort: skip # before numpy
    Case,
    FaultError,
    Told,
    check_clean,
    check_left,
    export,
    fork,
    prepare,
    sha,
    show,
    wait,
)

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import headrace as hr
from headrace.events import ChunkDone, PassFinished, PassStarted

MARKED = (hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=100))
CASES = (
    # X is written in the first pass, and read back from the file; nothing is kept of the source
    Case(
        "written ahead",
        (*MARKED, hr.Scale(max_value=10, store=False), hr.PCA(5)),
        executor=hr.Threads(2, 2),
        small=True,
    ),
    # written in the last pass, from the spool
    Case(
        "written last", (*MARKED, hr.SaveLayer("logs"), hr.PCA(5, layer="logs")), executor=hr.Threads(2, 2), small=True
    ),
)


class Killer(Told):
    """Ends its own process in a pass: after so many of its chunks, or at its end if that is None."""

    def __init__(self, number: int, chunks: int | None) -> None:
        super().__init__()
        self.number, self.chunks, self.at, self.done = number, chunks, 0, 0

    def __call__(self, event: Any) -> None:
        """Take an event of the run."""
        super().__call__(event)
        if isinstance(event, PassStarted):
            self.at, self.done = event.number, 0
        self.done += isinstance(event, ChunkDone)
        ended = isinstance(event, PassFinished) if self.chunks is None else self.done == self.chunks
        if self.at == self.number and ended:
            os.kill(os.getpid(), signal.SIGKILL)


def run(case: Case, out: Path, told: Told, log: Path) -> int:
    """Run the export in a child; return how it ended."""
    return wait(fork(lambda: export(case, out, out, told), log))


def main() -> int:
    """Kill in all passes of all cases."""
    passes, kills, kept = zip(*map(kill, CASES), strict=True)
    show({"passes": passes, "kills": sum(kills), "chunks_not_read_again": kept, "failures": 0})
    return 0


def kill(case: Case) -> tuple[int, int, int]:
    """Kill in all passes; return their number, that of kills, and chunks that were not read again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, census=False)
        log, told = folder / "log", Told()
        whole = folder / "whole" / "out.h5ad"
        whole.parent.mkdir()
        if run(case, whole, told, log):
            raise FaultError(log.read_text())
        known, n_passes, n_reads = sha(whole), told.shared[0], told.n_reads
        kept = kills = 0
        moments: list[tuple[int, int | None]] = [(k, n) for k in range(1, n_passes + 1) for n in (2, None)]
        for number, chunks in moments:
            out = folder / f"{number}-{chunks}" / "out.h5ad"
            out.parent.mkdir()
            code = run(case, out, Killer(number, chunks), log)
            if code != -signal.SIGKILL:
                raise FaultError(f"pass {number}: no kill, but {code}: {log.read_text()}")
            kills += 1
            if out.exists():
                raise FaultError(f"pass {number}: there is a file, though the run was killed")
            parts = check_left(out)
            told.clear()
            if run(case, out, told, log):
                raise FaultError(f"pass {number}: {log.read_text()}")
            if told.n_reads != n_reads - parts:
                raise FaultError(f"pass {number}: {parts} parts were there, and {told.n_reads} of {n_reads} were read")
            kept += parts
            check_clean(out)
            if sha(out) != known:
                raise FaultError(f"pass {number}: the file is not the one that an undisturbed run writes")
        return n_passes, kills, kept


if __name__ == "__main__":
    sys.exit(main())

"""Fail every call that writes, one after the other, and look at what is left: a disk that breaks, or is full.

    python tests/faults/eio.py                     # every call; some minutes
    python tests/faults/eio.py --writes 15         # all calls but writes, and 15 of those
    python tests/faults/eio.py --case 0 --mode broken --call 37

An export is run once to count its calls (shim.c), then again for each call k: that one fails. The run must end with
exit code 1 and one line that says what is wrong, the old file (or nothing, or the whole new one) under the final
name, and nothing beside it but the spool. The next run, undisturbed, must write what an undisturbed run writes.

Modes: `broken` call k fails with EIO; `full` call k and all that take space after it fail with ENOSPC; `short` call k
writes half of what it was given, which is no error; `unreadable` call k that reads a part of the spool fails with EIO;
`forbidden` opening a part fails with EACCES.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

if "shim.so" not in os.environ.get("LD_PRELOAD", "") and __name__ == "__main__":
    library = Path(tempfile.mkdtemp(prefix="headrace-shim-")) / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_PRELOAD": str(library)})

from jobs import OLD, ONE_PASS, TWO_PASSES, Case, FaultError, check_clean, check_left, check_target  # isort: skip # before numpy
from jobs import export, fork, prepare, sha, show, wait  # isort: skip

import argparse
import ctypes
import errno
import mmap
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass

import headrace as hr

LOGGED = (hr.NormalizeTotal(1e4), hr.Log1p())
COMPONENTS = (*LOGGED, hr.HighlyVariableGenes(n_top_genes=100), hr.Scale(max_value=10, store=False), hr.PCA(5))
CASES = (
    Case("two passes over an old file", TWO_PASSES, old=OLD, small=True),
    Case("two passes, gzip", TWO_PASSES, "gzip", small=True),
    Case("one pass over an old file", ONE_PASS, old=OLD, small=True),
    Case("components", COMPONENTS, executor=hr.Threads(2, 2), small=True),
    Case("markers", (*LOGGED, hr.RankGenesGroups("cell_type", method="wilcoxon")), small=True),
)


@dataclass(frozen=True)
class Mode:
    """How calls fail."""

    kinds: str
    error: int
    sticky: bool = False
    only: str = ""


MODES = {
    "broken": Mode("wsrtomf", errno.EIO),
    "full": Mode("womf", errno.ENOSPC, sticky=True),
    "short": Mode("w", -1),
    "unreadable": Mode("R", errno.EIO, only=".part"),
    "forbidden": Mode("O", errno.EACCES, only=".part"),
}


class Shared(ctypes.Structure):
    """What the shim and this program share; see shim.c."""

    _fields_ = (
        ("armed", ctypes.c_int),
        ("error", ctypes.c_int),
        ("sticky", ctypes.c_int),
        ("at", ctypes.c_int),
        ("kinds", ctypes.c_char * 16),
        ("only", ctypes.c_char * 64),
        ("calls", ctypes.c_int),
        ("noted", (ctypes.c_char * 64) * 4096),
    )


class Faults:
    """Exports with one call that fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.census = prepare(folder, census=False)
        self.shared = Shared.from_buffer(mmap.mmap(-1, ctypes.sizeof(Shared)))
        self.outcomes: Counter[str] = Counter()
        self.sha: dict[str, str] = {}
        self.cursor = 0

    def run(self, case: Case, out: Path, mode: Mode | None, at: int = -1) -> tuple[int, str]:
        """Run an export whose call `at` fails, or none; return its exit code and what it said."""

        def job() -> int:
            ctypes.CDLL(None).fault_use(ctypes.byref(self.shared), os.fsencode(out.parent))
            return export(case, self.census, out)

        shared = self.shared
        shared.calls, shared.at, shared.armed = 0, at, mode is not None
        if mode is not None:
            shared.error, shared.sticky, shared.kinds, shared.only = (
                mode.error,
                mode.sticky,
                mode.kinds.encode(),
                mode.only.encode(),
            )
        code = wait(fork(job, self.folder / "log"))
        return code, (self.folder / "log").read_text()

    def new(self, case: Case) -> Path:
        """Return a path in a new folder."""
        self.cursor += 1
        out = self.folder / f"run-{self.cursor}" / "out.h5ad"
        out.parent.mkdir()
        if case.old is not None:
            out.write_bytes(case.old)
        return out

    def noted(self) -> list[str]:
        """Return the calls of the last run: kind and end of the path."""
        return [self.shared.noted[k].value.decode(errors="replace") for k in range(min(4096, self.shared.calls))]

    def calls(self, case: Case, mode: Mode) -> list[str]:
        """Count the calls of an undisturbed run."""
        out = self.new(case)
        code, said = self.run(case, out, mode)
        if code:
            raise FaultError(f"the undisturbed run of {case.name} ends with {code}: {said}")
        check_clean(out)
        if "r" in mode.kinds:
            check_order(self.noted(), out)
        self.sha.setdefault(case.name, sha(out))
        if self.sha[case.name] != sha(out):
            raise FaultError(f"{case.name}: two undisturbed runs are not the same")
        shutil.rmtree(out.parent)
        return self.noted()

    def one(self, case: Case, name: str, at: int) -> None:
        """Fail one call, look, and go on."""
        mode = MODES[name]
        out = self.new(case)
        code, said = self.run(case, out, mode, at)
        call = self.noted()[at] if self.shared.calls > at else "none"
        if call == "none":
            self.outcomes[f"{name}: fewer calls this time"] += 1  # threads: the drain syncs when it comes to it
        there = check_target(case, out, self.sha[case.name], self.folder / "log")
        self.outcomes[f"{name}: exit code {code}, {there}"] += 1
        try:
            self._judge(name, mode, call, code, said, there, out)
            if (out.parent / f".{out.name}.partial").exists() and not mode.sticky:
                raise FaultError("the .partial file is left behind")
            check_left(out)
            if there != "new" or case.old is not None:
                code, said = self.run(case, out, None)
                if code:
                    raise FaultError(f"the run after it ends with {code}: {said}")
            if sha(out) != self.sha[case.name]:
                raise FaultError("the run after it does not write what an undisturbed run writes")
            if there != "new" or case.old is not None:
                check_clean(out)
        except FaultError as error:
            raise FaultError(
                f"{case.name}, {name}, call {at} ({call}): {error}\nagain: python tests/faults/eio.py "
                f"--case {CASES.index(case)} --mode {name} --call {at}"
            ) from error
        finally:
            shutil.rmtree(out.parent)

    def _judge(self, name: str, mode: Mode, call: str, code: int, said: str, there: str, out: Path) -> None:
        for word in ("Traceback", "unexpected", "Exception ignored", "Fatal", "please report"):
            if word in said:
                raise FaultError(f"it says {word!r}: {said}")
        if name == "short" or call == "none":
            if code or there != "new":
                raise FaultError(f"nothing was wrong, and it ends with {code}: {said}")
            return
        if code == 0:
            if there != "new":
                raise FaultError(f"it ends as if all were well: {said}")
            return
        if code != 1 or said.count("error: ") != 1:
            raise FaultError(f"it ends with {code}, and says {said!r}")
        if os.strerror(mode.error) not in said or str(out.parent) not in said:
            raise FaultError(f"it does not say what and where: {said}")
        if mode.only and mode.only not in said:
            raise FaultError(f"it does not name what cannot be read: {said}")
        if there == "new" and "nothing was" in said:
            raise FaultError(f"the new file is there, but it says: {said}")


def check_order(calls: list[str], out: Path) -> None:
    """Check that a power cut leaves the old file or the new one: written, synced, renamed, and the folder synced."""
    partial, folder = f"/.{out.name}.partial", out.parent.name
    written = max(k for k, call in enumerate(calls) if call[0] in "wt" and call.endswith(partial))
    renamed = next(k for k, call in enumerate(calls) if call[0] == "r" and call.endswith(f"/{out.name}"))
    synced = [k for k, call in enumerate(calls) if call[0] == "s" and call.endswith(partial)]
    after = [k for k, call in enumerate(calls) if call[0] == "s" and call.endswith(f"/{folder}") and k > renamed]
    if not (synced and written < synced[-1] < renamed and after):
        raise FaultError(f"the order is not write, sync, rename, sync of the folder: {calls[-12:]}")


def main() -> int:
    """Run the faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writes", type=int, help="so many of the calls that are not a sync or a rename; else all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, action="append")
    parser.add_argument("--mode", choices=list(MODES), action="append")
    parser.add_argument("--call", type=int)
    parser.add_argument("--most", type=int, default=10, help="failures of one kind after which it goes to the next")
    given = parser.parse_args()
    shutil.rmtree(Path(os.environ.pop("LD_PRELOAD")).parent)  # it is loaded
    rng = random.Random(given.seed)
    started = time.monotonic()
    failures: list[str] = []
    counted: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="headrace-eio-") as folder:
        faults = Faults(Path(folder))
        for case in CASES if given.case is None else [CASES[number] for number in given.case]:
            for name in given.mode or MODES:
                if MODES[name].only and not case.spooled:
                    continue
                calls = faults.calls(case, MODES[name])
                counted[f"{case.name}, {name}"] = len(calls)
                which = range(len(calls))
                if given.call is not None:
                    which = range(given.call, given.call + 1)
                elif given.writes is not None:
                    rare = [k for k, call in enumerate(calls) if call[0] in "sr"]
                    others = [k for k, call in enumerate(calls) if call[0] not in "sr"]
                    which = sorted(rare + rng.sample(others, min(given.writes, len(others))))
                for at in which:
                    if sum(f"{case.name}, {name}" in failure for failure in failures) >= given.most:
                        break
                    try:
                        faults.one(case, name, at)
                    except FaultError as error:
                        failures.append(str(error))
                        print(error, flush=True)
                print(f"{case.name}, {name}: {len(which)} of {len(calls)} calls", flush=True)
        figures = {
            "calls": counted,
            "outcomes": dict(sorted(faults.outcomes.items())),
            "failures": len(failures),
            "seconds": round(time.monotonic() - started, 1),
        }
    show(figures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

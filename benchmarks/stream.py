"""headrace beside its peers, on the same input in the same run: `make bench`, `make bench SIZE=200k`.

    python benchmarks/stream.py --size 20k --peers FOLDER [--census PATH] [--h5ad PATH] [--jobs nlh,hvg] [--only scanpy]
    python benchmarks/stream.py --print

Every program runs in a process of its own, in turn, `--repeat` times; one that fails gets a line that says so, and the
others go on. See README.md beside this file for what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from harness.inputs import BENCHMARKS, locate, read_by
from harness.jobs import CONTENDERS, DEFAULT_JOBS, HEADRACE, JOBS, Contender, Kind, contenders
from harness.measure import Measured, run, stoppable, warm
from harness.results import Results, read, table

SCRIPTS = BENCHMARKS / "peers"
OUT = BENCHMARKS / "out"
WRONG = 1e-3
"""A relative difference of X, or of another result, above which numbers count as wrong."""


class Bench:
    """Runs contenders, and compares what they made with what headrace made."""

    def __init__(self, given: argparse.Namespace, results: Results, work: Path) -> None:
        self.given, self.results, self.work = given, results, work
        self.most = int(given.most_memory * 1e9) or int(psutil.virtual_memory().total * 0.85)

    def job(self, kind: Kind, name: str, path: Path) -> None:
        """Run all who do a job, in turn."""
        failed: set[str] = set()
        for repetition in range(self.given.repeat):
            for one in contenders(kind, name, self.given.only):
                if one.name not in failed:
                    row = self._row(one, name, path, repetition)
                    self.results.add({"kind": kind, "job": name, "repetition": repetition, **row})
                    done = f"{row['wall']:.1f} s" if row["status"] == "ok" else row["status"]
                    print(f"  {one.name:<28}{done}", flush=True)
                    failed |= {one.name} if row["status"] != "ok" else set()
        for made in self.work.iterdir():
            shutil.rmtree(made) if made.is_dir() else made.unlink()

    def _row(self, one: Contender, job: str, path: Path, repetition: int) -> dict[str, Any]:
        """Run one contender once."""
        ours = one.name == HEADRACE
        output, genes = (self.work / f"{'ours' if ours else 'theirs'}.{suffix}" for suffix in ("h5ad", "genes"))
        command, why = self._command(one)
        if why:
            return {"name": one.name, "status": why}
        genes.unlink(missing_ok=True)
        warm(read_by(one.kind, path))
        log = OUT / "logs" / f"{one.kind}-{job}-{one.name.replace(' ', '_').replace('/', '_')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        got = run(
            [*command, job, str(path), str(output), str(genes), *one.options],
            self.work,
            timeout=self.given.timeout,
            most_memory=self.most,
            log=log,
        )
        row = {"name": one.name, **described(got)}
        if got.status == "ok" and not ours and not one.floor and repetition == 0:
            row["agree"] = self._agreement(job)
            for key, what in (("x", "X differs"), ("result", f"{JOBS[job].result} differ")):
                if row["agree"].get(key, 0) > WRONG:
                    row["status"] = f"wrong numbers: {what} by {row['agree'][key]:.0e}"
        if not ours:
            output.unlink(missing_ok=True)
        for left in self.work.iterdir():  # what peers leave lying about
            if not left.name.startswith("ours."):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        subprocess.run(["sync", "-f", str(self.work)], check=False)
        return row

    def _command(self, one: Contender) -> tuple[list[str], str]:
        """Return how to start a contender, or why that cannot be."""
        script = str(SCRIPTS / one.script)
        if one.absent:
            return [], one.absent
        if one.environment == "":
            return [sys.executable, script], ""
        if one.environment == "R":
            asked = shutil.which("Rscript") and subprocess.run(
                ["Rscript", "-e", "library(BPCells)"], capture_output=True, check=False
            )
            return ["Rscript", script], "" if asked and asked.returncode == 0 else "not installable here: no R package"
        folder = Path(self.given.peers).absolute()
        note = folder / f"{one.environment}.failed"
        if note.exists():
            return [], f"not installable here: {note.read_text().strip()}"
        ready = (folder / one.environment / ".ready").exists()
        return [str(folder / one.environment / "bin" / "python"), script], "" if ready else "not installed: make peers"

    def _agreement(self, job: str) -> dict[str, Any]:
        """Compare the last output with headrace's: genes chosen by both, values of X."""
        ours, theirs = self.work / "ours.genes", self.work / "theirs.genes"
        agree: dict[str, Any] = {}
        if ours.exists() and theirs.exists():
            agree["genes"] = len(set(ours.read_text().split()) & set(theirs.read_text().split()))
        if JOBS[job].writes and (self.work / "ours.h5ad").exists():
            command = [
                sys.executable,
                "-m",
                "harness.agree",
                str(self.work / "ours.h5ad"),
                str(self.work / "theirs.h5ad"),
                *([JOBS[job].result] if JOBS[job].result else []),
            ]
            compared = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
            agree |= json.loads(compared.stdout or '{"why": "could not be compared"}')
        return agree


def described(got: Measured) -> dict[str, Any]:
    """Return a measurement as plain values, with what the script said of itself."""
    row: dict[str, Any] = {name: value for name, value in vars(got).items() if name != "said"}
    if got.status == "ok":
        row |= json.loads(got.said.strip().splitlines()[-1])
    row["peak"] = got.peak
    return row


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="20k", help="cells: 20k, 200k, ...")
    parser.add_argument("--census", default="", help="a Census; {size} in the path stands for the size")
    parser.add_argument("--h5ad", default="", help="an h5ad file with counts; the same")
    parser.add_argument("--peers", default=str(BENCHMARKS / ".peers"), help="folder that `make peers` has filled")
    parser.add_argument("--kinds", default="soma,h5ad", help="of input")
    parser.add_argument("--jobs", default=",".join(DEFAULT_JOBS), help=f"of {', '.join(JOBS)}")
    parser.add_argument("--only", default="", help=f"parts of names, of {', '.join(one.name for one in CONTENDERS)}")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900, help="seconds")
    parser.add_argument("--most-memory", type=float, default=0, help="GB; 85 %% of the machine by default")
    parser.add_argument("--work", default=str(OUT), help="where outputs go while they are compared")
    parser.add_argument("--results", default=str(OUT / "stream.jsonl"))
    parser.add_argument("--print", action="store_true", help="print the last table again, run nothing")
    parser.add_argument("--session", default="", help="with --print: the beginning of its date")
    return parser.parse_args()


def main() -> None:
    """Run what was asked for and print the table."""
    given = arguments()
    stoppable()
    if given.print:
        print(table(read(Path(given.results), given.session)))
        return
    Path(given.work).mkdir(parents=True, exist_ok=True)
    results = Results(Path(given.results), size=given.size)
    kinds: list[tuple[Kind, str]] = [("soma", given.census), ("h5ad", given.h5ad)]
    with tempfile.TemporaryDirectory(dir=given.work, prefix="bench-") as work:
        bench = Bench(given, results, Path(work).absolute())
        for kind, place in kinds:
            if kind in given.kinds.split(","):
                path = locate(kind, given.size, place)
                for job in given.jobs.split(","):
                    print(f"{kind} {given.size} {job}", flush=True)
                    bench.job(kind, job, path)
    print("\n" + table(results.rows))


if __name__ == "__main__":
    main()

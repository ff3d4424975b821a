"""Kill exports at random moments, go on, kill again, and compare with an export that nobody disturbed.

    python tests/faults/campaign.py --kills 200 --cli 20 --seed 1
    python tests/faults/campaign.py --seed 1 --chain 17        # one chain again

A chain is one export that is killed (SIGKILL) once to five times, each time by another run that goes on, and then
finished. After each kill, there is nothing under the final name, or the old file to the byte, or the whole new one;
every part of the spool under its final name is whole. The finished file equals the undisturbed one to the byte, no
part that was there is read again, and nothing is left beside it. Half of the kills fall anywhere in a run's life,
half between its last chunk and its end: var, checksums, fsync, rename, removal of the spool.
"""

from __future__ import annotations

from jobs import (  # isort: skip # before numpy
    CASES,
    OLD,
    Case,
    Told,
    FaultError,
    check_clean,
    check_left,
    check_target,
    export,
    fork,
    prepare,
    sha,
    show,
    wait,
)

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs import TWO_PASSES_CLI

from headrace.engine.spool import clean


@dataclass
class Clean:
    """An undisturbed run: what it writes, how long it takes, and how long from its last chunk on."""

    sha: str
    seconds: float
    ending: float
    reads: int


class Campaign:
    """Chains of kills, each in a folder of its own."""

    def __init__(self, folder: Path, seed: int, small: bool) -> None:
        self.folder, self.seed = folder, seed
        self.census = prepare(folder, census=not small)
        self.told = Told()
        self.cases = [replace(case, small=small) for case in CASES]
        self.undisturbed = {case.name: self._undisturbed(case) for case in self.cases}
        self.stages: Counter[str] = Counter()
        self.kills = self.late = self.chains = self.most = 0
        self.spared = 0

    def _undisturbed(self, case: Case) -> Clean:
        runs = []
        for number in range(3):
            out = self._new(case, f"undisturbed-{number}")
            started = time.monotonic()
            child = self._start(case, out)
            ended = None
            while os.waitpid(child, os.WNOHANG)[0] == 0:
                if ended is None and self.told.stage == f"after pass {1 + case.spooled}":
                    ended = time.monotonic()
                time.sleep(0.0005)
            now = time.monotonic()
            runs.append(Clean(sha(out), now - started, now - (ended or now), self.told.n_reads))
            check_clean(out)
            shutil.rmtree(out.parent)
        assert len({run.sha for run in runs}) == 1, f"{case.name}: three undisturbed runs are not the same"
        runs.sort(key=lambda run: run.seconds)
        return Clean(runs[1].sha, runs[1].seconds, max(run.ending for run in runs), runs[1].reads)

    def _new(self, case: Case, name: str) -> Path:
        out = self.folder / name / "out.h5ad"
        out.parent.mkdir()
        if case.old is not None:
            out.write_bytes(case.old)
        return out

    def _start(self, case: Case, out: Path) -> int:
        self.told.clear()
        return fork(lambda: export(case, self.census, out, self.told), self.folder / "log")

    def chain(self, number: int) -> None:
        """Run one chain; raise `FaultError` if anything is not as it must be."""
        rng = random.Random(f"{self.seed} {number}")
        case = self.cases[number % len(self.cases)]
        known = self.undisturbed[case.name]
        out = self._new(case, f"chain-{number}")
        self.chains += 1
        history = []
        try:
            for _ in range(1 + min(4, int(rng.expovariate(0.9)))):
                late = rng.random() < 0.5
                delay = rng.random() * (known.ending * 1.1 if late else known.seconds)
                history.append(f"{'end + ' if late else ''}{delay * 1000:.1f} ms")
                stage = self._kill(case, out, delay, late)
                if stage is None:
                    self.late += 1
                    break
                self.kills += 1
                there = check_target(case, out, known.sha, self.folder / "log")
                parts = check_left(out)
                self.most = max(self.most, parts)
                self.stages["after the rename" if there == "new" else stage] += 1
                if there == "new" and case.old is None:
                    break  # it is not to be replaced
            self._finish(case, out, known)
        except FaultError as error:
            raise FaultError(
                f"chain {number} ({case.name}; kills: {', '.join(history)}): {error}\n"
                f"again: python tests/faults/campaign.py{' --small' * case.small} --seed {self.seed} --chain {number}"
            ) from error
        shutil.rmtree(out.parent)

    def _kill(self, case: Case, out: Path, delay: float, late: bool) -> str | None:
        """Start a run and kill it; return the stage it was in, or None if it ended before."""
        child = self._start(case, out)
        last = f"after pass {1 + case.spooled}"
        begun = time.monotonic()
        while late and self.told.stage != last:
            time.sleep(0.0002)
            if time.monotonic() - begun > 120:
                os.kill(child, signal.SIGKILL)
                raise FaultError("a run hangs")
            if os.waitpid(child, os.WNOHANG)[0]:
                return None
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        return self.told.stage if wait(child) == -signal.SIGKILL else None

    def _finish(self, case: Case, out: Path, known: Clean) -> None:
        parts = check_left(out)
        whole = out.exists() and case.old is None
        child = self._start(case, out)
        code = wait(child)
        said = (self.folder / "log").read_text()
        if whole:
            if code != 1 or "exists; overwrite=True" not in said:
                raise FaultError(f"a whole file must not be replaced without being asked: {code}, {said}")
            clean(out.parent / ".headrace-spool")
            left = [path for path in out.parent.glob(".headrace-spool/**/*") if path.is_file()]
            if left:
                raise FaultError(f"`headrace spool clean` leaves {left}")
        else:
            if code != 0:
                raise FaultError(f"the last run ended with {code}: {said}")
            if case.spooled and self.told.n_reads != known.reads - parts:
                raise FaultError(f"{parts} parts were there, and {self.told.n_reads} of {known.reads} were read")
            self.spared += parts
            check_clean(out)
        if sha(out) != known.sha:
            raise FaultError("the file is not the one that an undisturbed run writes")


def real(folder: Path, census: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill the real command line, from the start of the interpreter on."""
    rng = random.Random(seed)
    out = folder / "cli" / "out.h5ad"
    out.parent.mkdir()
    command = [sys.executable, "-m", "headrace", "export", "--census", str(census), "--organism", "mus_musculus"]
    command += [*TWO_PASSES_CLI, "--out", str(out), "--overwrite", "--memory"]
    refused = subprocess.run([*command, "1MB"], capture_output=True, text=True, check=False).stderr
    least = re.search(r"at least (\d+) MB", refused)
    assert least, refused
    command.append(f"{int(least[1]) + 1}MB")  # the least memory, the most parts

    def run() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    started = time.monotonic()
    process = run()
    said = process.communicate()[1].decode()
    assert process.returncode == 0, said
    seconds = time.monotonic() - started
    whole = sha(out)
    done = late = 0
    while done < kills:
        out.write_bytes(OLD)
        for _ in range(rng.randint(1, 3)):
            process = run()
            time.sleep(rng.uniform(0.3, 1.05) * seconds)
            process.kill()
            process.communicate()
            late += process.returncode == 0
            done += process.returncode == -signal.SIGKILL
            found = out.read_bytes()
            if found != OLD and sha(out) != whole:
                raise FaultError(f"after a kill of the command line, the file is neither old nor whole (seed {seed})")
            check_left(out)
        process = run()
        said = process.communicate()[1].decode()
        if process.returncode or sha(out) != whole:
            raise FaultError(f"the command line's last run: {process.returncode}, {said} (seed {seed})")
        check_clean(out)
    return {"cli_kills": done, "cli_late": late, "cli_seconds_a_run": round(seconds, 2)}


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cli", type=int, default=0, help="as many kills of the real command line besides")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--chain", type=int, help="only this chain")
    parser.add_argument("--small", action="store_true", help="a source in memory instead of a Census: faster")
    parser.add_argument("--keep-going", action="store_true", help="count what fails, and go on")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="headrace-kills-") as folder:
        campaign = Campaign(Path(folder), seed, given.small)
        for name, known in campaign.undisturbed.items():
            print(f"  {name}: {known.seconds:.2f} s, of which {known.ending:.3f} s after the last chunk", flush=True)
        number = 0 if given.chain is None else given.chain
        while campaign.kills < given.kills:
            try:
                campaign.chain(number)
            except FaultError as error:
                failures.append(str(error))
                print(error, flush=True)
                if not given.keep_going:
                    return 1
            number += 1
            if number % 25 == 0:
                print(f"  {campaign.kills} kills, {time.monotonic() - started:.0f} s", flush=True)
            if given.chain is not None:
                break
        figures = {
            "seed": seed,
            "kills": campaign.kills,
            "chains": campaign.chains,
            "ended_before_the_kill": campaign.late,
            "stages": dict(sorted(campaign.stages.items())),
            "most_parts": campaign.most,
            "chunks_not_read_again": campaign.spared,
            "failures": len(failures),
        }
        if given.cli:
            figures |= real(Path(folder), campaign.census, given.cli, seed)
    show(figures | {"seconds": round(time.monotonic() - started, 1)})
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Workers, the scheduler and the client of a dask cluster are killed at random moments: the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_kills_of_workers_schedulers_and_clients() -> None:
    command = [sys.executable, "-m", "tests.faults.scale", "--kills", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert sum(line.startswith("worker killed after") for line in said) == 10
    assert sum(line.startswith("scheduler killed after") for line in said) == 3
    assert sum(line.startswith("client killed after") for line in said) == 3
    (noticed,) = (line for line in said if line.startswith("10 workers killed"))
    assert not noticed.startswith("10 workers killed, 0 "), "none of them had a task"

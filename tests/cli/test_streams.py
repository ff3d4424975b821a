"""Streams that are closed or end, and signals: the exit status is that of the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import headrace as hr

HEADRACE = f"'{sys.executable}' -m headrace"


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of counts: a run of a second."""
    path = tmp_path_factory.mktemp("streams") / "counts.csv"
    path.write_text("gene,s1,s2,s3\ng1,5,6,7\ng2,9,8,10\ng3,100,90,120\n")
    return path


def shell(command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=os.environ | more,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-", "2>/dev/full", "1> >(true) 2> >(true)"])
def test_streams_that_are_closed(closed: str, counts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5ad"
    run = f"{HEADRACE} bulk {counts} --orientation genes-x-samples --log --out {out}"
    assert shell(f"{run} {closed}").returncode == 0
    assert hr.open_h5ad(out, layer="counts").spec.n_obs == 3
    assert shell(f"{run} --no-such-option {closed}").returncode == 2


def test_a_reader_that_has_read_enough(counts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5ad"
    shell(f"{HEADRACE} bulk {counts} --orientation genes-x-samples --out {out}")
    for command, code in (("bulk --help", 0), (f"verify {out}", 0)):
        done = shell(f"{HEADRACE} {command} | true; exit ${{PIPESTATUS[0]}}")
        assert (done.returncode, done.stderr) == (code, done.stderr if command.startswith("verify") else "")
    with out.open("r+b") as file:
        file.seek(-2000, os.SEEK_END)
        file.write(b"damaged" * 100)
    assert shell(f"{HEADRACE} verify {out} | true; exit ${{PIPESTATUS[0]}}").returncode == 1
    lost = shell(f"{HEADRACE} bulk --help > /dev/full")
    assert lost.returncode == 1
    assert lost.stderr == "error: cannot write to standard output: No space left on device\n"


SLOW = """
import signal, sys, time
from headrace.cli.console import Session, stoppable
session = Session()
with stoppable(session, for_good=True):
    try:
        print("ready", flush=True)
        time.sleep(30)
    except BaseException as error:
        sys.exit(session.ended(error))
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["hang-up", "nohup"])
def test_a_hang_up_is_as_a_termination_unless_it_is_ignored(ignored: bool) -> None:
    def before() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    with subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGHUP)
        if ignored:
            time.sleep(0.3)
            assert run.poll() is None
            run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=20)
    expected = (143, "terminated; nothing was written\n") if ignored else (129, "hung up; nothing was written\n")
    assert (run.returncode, said) == expected


@pytest.mark.parametrize("number", [signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2])
def test_what_batch_systems_send_before_they_kill(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(number)
        _, said = run.communicate(timeout=20)
    assert (run.returncode, said.rpartition("; ")[2]) == (128 + number, "nothing was written\n")

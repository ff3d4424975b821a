"""Clusters that break: workers, schedulers and clients are killed at random moments; the file has the same bytes.

    python tests/faults/scale.py --kills 10

Each case starts a scheduler and workers as processes of their own, as a cluster does.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import headrace as hr
from headrace.chunk import Chunk, StreamSpec
from headrace.events import ChunkDone, Notice
from headrace.protocols import Source, Transform

ROOT = Path(__file__).parents[2]
MEMORY = 2 * 10**9


@dataclass(frozen=True)
class Slow(Transform):
    """Takes its time, so that there is some in which to break something."""

    seconds: float = 0.03

    def __call__(self, chunk: Chunk) -> Chunk:
        time.sleep(self.seconds)
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        return spec


def write_input(path: Path, n_cells: int = 3000) -> None:
    """Write an .h5ad file of simulated counts that is read in some dozen chunks."""
    from scipy import sparse

    rng = np.random.default_rng(3)
    X = sparse.csr_array(sparse.random(n_cells, 900, 0.35, "csr", np.float32, rng))
    X.data = np.ceil(rng.gamma(1.0, 3.0, X.nnz)).astype(np.float32)
    from headrace.sources.arrays import ArraySource

    obs = pd.DataFrame({"batch": pd.Categorical(np.arange(n_cells) % 3)}, index=[f"c{i}" for i in range(n_cells)])
    of = ArraySource(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(900)]))
    hr.Plan(of, []).write_h5ad(path)


def plan(path: Path, seconds: float = 0.03) -> hr.Plan:
    """Three passes, of which the last writes."""
    steps: list[Any] = [hr.SaveLayer("counts"), Slow(seconds), hr.FilterGenes(min_cells=5), hr.NormalizeTotal(1e4)]
    steps += [hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=100), hr.Scale(max_value=10, store=False), hr.PCA(5)]
    return hr.Plan(Cut(hr.open_h5ad(path)), steps)


class Cut(Source[Any]):
    """A file in small chunks."""

    def __init__(self, of: Any) -> None:
        self.of = of

    @property
    def spec(self) -> StreamSpec:
        return self.of.spec  # type: ignore[no-any-return]

    def refs(self, nnz: int) -> Any:
        return self.of.refs(30_000)

    def read(self, refs: Any) -> Any:
        return self.of.read(refs)

    def cost(self) -> Any:
        return self.of.cost()

    def identity(self) -> str:
        return self.of.identity() or "file"

    @property
    def files(self) -> tuple[Path, ...]:
        return self.of.files  # type: ignore[no-any-return]


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process within the block; it is killed at its end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    made = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield made
    finally:
        made.kill()
        made.wait()


@contextmanager
def scheduler(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a scheduler."""
    with process(
        "-m", "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard", "--host", "127.0.0.1"
    ) as made:
        yield made


@contextmanager
def workers(port: int, folder: Path, n: int = 2) -> Iterator[None]:
    """Run workers, each with a nanny that starts it again."""
    with process(
        "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nworkers", str(n), "--nthreads", "1",
        "--memory-limit", "3GB", "--no-dashboard", "--local-directory", str(folder), "--death-timeout", "60",
    ) as made:  # fmt: skip
        try:
            yield None
        finally:
            made.terminate()
            with suppress(subprocess.TimeoutExpired):
                made.wait(10)


def free_port() -> int:
    """Return a port that is free now."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def connect(port: int, n: int = 2) -> Any:
    """Return a client when all workers are there."""
    from distributed import Client

    for _ in range(60):
        with suppress(OSError):
            client = Client(f"tcp://127.0.0.1:{port}", timeout=5)
            client.wait_for_workers(n, timeout=60)
            return client
    raise AssertionError("no scheduler")


def pid() -> int:
    """Return this process's number."""
    return os.getpid()


# ---------------------------------------------------------------------------------------------------------- cases
def kill_workers(source: Path, folder: Path, moments: list[float]) -> Iterator[tuple[float, bytes, list[str]]]:
    """In a run for each moment, kill a worker after so many seconds, with SIGKILL; its nanny starts another."""
    port, out = free_port(), folder / "killed.h5ad"
    with scheduler(folder, port), workers(port, folder), connect(port) as client:
        for moment in moments:
            client.wait_for_workers(2, timeout=120)
            there, told = client.run(pid, on_error="ignore"), []
            victim = random.choice(sorted(there.values()))
            timer = threading.Timer(moment, os.kill, (victim, signal.SIGKILL))
            timer.start()

            def listen(event: Any, told: list[str] = told) -> None:
                if isinstance(event, Notice):
                    told.append(event.message)

            executor = hr.Distributed(client)
            plan(source).write_h5ad(out, executor=executor, memory=MEMORY, on_event=listen, overwrite=True)
            timer.cancel()
            yield moment, out.read_bytes(), told


def kill_the_scheduler(source: Path, folder: Path, chunks: int) -> tuple[str, list[str], bytes]:
    """Kill the scheduler after so many ranges; then start all again and go on."""
    port, seen = free_port(), []
    out = folder / "scheduler.h5ad"
    out.unlink(missing_ok=True)
    message = ""
    with scheduler(folder, port) as process_, workers(port, folder):
        client = connect(port)

        def break_it(event: Any) -> None:
            seen.append(event)
            if sum(isinstance(one, ChunkDone) for one in seen) == chunks:
                process_.kill()

        try:
            plan(source).write_h5ad(out, executor=hr.Distributed(client), memory=MEMORY, on_event=break_it)
        except hr.HeadraceError as error:
            message = str(error)
        with suppress(Exception):
            client.close(timeout=1)
    told: list[str] = []
    port = free_port()
    with scheduler(folder, port), workers(port, folder), connect(port) as client:
        plan(source).write_h5ad(
            out, executor=hr.Distributed(client), memory=MEMORY, overwrite=True,
            on_event=lambda event: told.append(event.message) if isinstance(event, Notice) else None,
        )  # fmt: skip
    return message, told, out.read_bytes()


CLIENT = """
import sys
from pathlib import Path
import headrace as hr
from tests.faults.scale import MEMORY, plan
if __name__ == "__main__":
    plan(Path(sys.argv[1])).write_h5ad(sys.argv[2], executor=hr.Distributed(sys.argv[3]), memory=MEMORY)
"""


def kill_the_client(source: Path, folder: Path, moment: float) -> tuple[int, list[str], bytes]:
    """Kill the client some seconds after its first range; then go on with another."""
    port = free_port()
    out, script = folder / "client.h5ad", folder / "client.py"
    out.unlink(missing_ok=True)
    script.write_text(CLIENT)
    with scheduler(folder, port), workers(port, folder), connect(port) as client:
        with process(str(script), str(source), str(out), f"tcp://127.0.0.1:{port}") as other:
            until = time.monotonic() + 120
            while (
                not list(folder.glob(".headrace-spool/*/pass-1-*.state"))
                and other.poll() is None
                and time.monotonic() < until
            ):
                time.sleep(0.05)
            time.sleep(moment)
            was_there = other.poll() is None
        left = len(list(folder.glob(".headrace-spool/*/*.state"))) if was_there else 0
        told: list[str] = []
        plan(source).write_h5ad(
            out, executor=hr.Distributed(client), memory=MEMORY, overwrite=True,
            on_event=lambda event: told.append(event.message) if isinstance(event, Notice) else None,
        )  # fmt: skip
    return left, told, out.read_bytes()


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random.seed(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, whole = folder / "in.h5ad", folder / "whole.h5ad"
        write_input(source)
        started = time.monotonic()
        plan(source).write_h5ad(whole, memory=MEMORY, executor=hr.Serial())
        expected = whole.read_bytes()
        print(f"one machine: {time.monotonic() - started:.1f} s, {len(expected):,} bytes", flush=True)
        noticed = 0
        moments = [random.uniform(0.0, 5.0) for _ in range(asked.kills)]
        for moment, written, told in kill_workers(source, folder, moments):
            assert written == expected, "other bytes after a worker was killed"
            noticed += bool(told)
            print(f"worker killed after {moment:.2f} s: same bytes; {told}", flush=True)
        print(f"{asked.kills} workers killed, {noticed} in the middle of a task: the same bytes", flush=True)
        for chunks in (1, 20, 40):
            message, told, written = kill_the_scheduler(source, folder, chunks)
            assert "\n" not in message
            assert written == expected, "other bytes after the scheduler was killed"
            print(f"scheduler killed after {chunks} ranges: {message or 'the run had ended'}; {told}", flush=True)
        for moment in (0.0, 1.0, 3.0):
            left, told, written = kill_the_client(source, folder, moment)
            assert written == expected, "other bytes after the client was killed"
            print(f"client killed after {moment} s: {left} states left; {told}", flush=True)


if __name__ == "__main__":
    main()

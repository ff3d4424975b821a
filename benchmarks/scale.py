"""What a dask cluster costs: beside threads on one machine, beside scanpy, and a scheduler with many tiny tasks.

    python benchmarks/scale.py compare --census PATH --rounds 3
    python benchmarks/scale.py scanpy --census PATH
    python benchmarks/scale.py tasks --n 10000

Needs `pip install 'headrace[dask]'`. `compare` gives wall and CPU seconds, since others may use the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import headrace as hr

MEMORY = "1GB"


def steps() -> list[Any]:
    """The main job: three passes less fused ones."""
    return [
        hr.SaveLayer("counts"),
        hr.FilterGenes(min_cells=50),
        hr.NormalizeTotal(1e4),
        hr.Log1p(),
        hr.HighlyVariableGenes(n_top_genes=1000),
    ]


@contextmanager
def cluster(n: int, folder: Path, limit: str = "6GB") -> Iterator[Any]:
    """A scheduler and workers in processes of their own, and a client."""
    import socket

    from distributed import Client

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
    worker += ["--nworkers", str(n), "--memory-limit", limit, "--no-dashboard", "--local-directory", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    made = [subprocess.Popen(one, env=environment, **quiet) for one in (scheduler, worker)]  # type: ignore[call-overload]
    try:
        for _ in range(60):
            with suppress(OSError):
                client = Client(f"tcp://127.0.0.1:{port}", timeout=10)
                break
        client.wait_for_workers(n, timeout=300)
        with client:
            yield client
    finally:
        for one in reversed(made):
            one.terminate()
            one.wait(30)


def usage() -> dict[str, float]:
    """Return CPU seconds and the peak of memory of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)  # whose ru_maxrss may be that of the process that started this one
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"cpu": used.ru_utime + used.ru_stime, "peak": peak * 1024.0}


def count_bytes() -> None:
    """Count what this process sends, from now on."""
    from distributed.comm import tcp

    if hasattr(tcp, "sent"):
        return
    tcp.sent = [0]
    write = tcp.TCP.write

    async def counted(self: Any, *given: Any, **more: Any) -> Any:
        n = await write(self, *given, **more)
        tcp.sent[0] += n or 0
        return n

    tcp.TCP.write = counted


def sent() -> int:
    """Return how many bytes this process has sent since."""
    from distributed.comm import tcp

    return int(tcp.sent[0])


def digest(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def compare(census: str, organism: str, rounds: int, workers: list[int], folder: Path) -> None:
    """Time threads and worker processes in turn."""
    query = hr.open_census(census).query(organism, primary_only=False)
    out = folder / "x.h5ad"

    def run(executor: Any) -> tuple[float, float, str]:
        before, started = usage()["cpu"], time.monotonic()
        hr.Plan(query, steps()).write_h5ad(out, memory=MEMORY, overwrite=True, executor=executor)
        return time.monotonic() - started, usage()["cpu"] - before, digest(out)

    for _ in range(rounds):
        wall, cpu, name = run(None)
        print(json.dumps({"executor": "Threads", "wall": wall, "cpu": cpu, "file": name}), flush=True)
        for n in workers:
            with cluster(n, folder) as client:
                client.run(count_bytes)
                client.run_on_scheduler(count_bytes)
                count_bytes()
                for round_ in ("first", "again"):
                    before, own, at = client.run(usage), client.run_on_scheduler(usage), sent()
                    lines = [*client.run(sent).values(), client.run_on_scheduler(sent)]
                    wall, cpu, name = run(hr.Distributed(client))
                    after, scheduler = client.run(usage), client.run_on_scheduler(usage)
                    now = [*client.run(sent).values(), client.run_on_scheduler(sent)]
                    print(
                        json.dumps(
                            {
                                "executor": f"Distributed, {n}",
                                "round": round_,
                                "wall": wall,
                                "cpu client": cpu,
                                "cpu workers": [after[w]["cpu"] - before[w]["cpu"] for w in after],
                                "cpu scheduler": scheduler["cpu"] - own["cpu"],
                                "peak workers MB": [after[w]["peak"] / 1e6 for w in after],
                                "peak client MB": usage()["peak"] / 1e6,
                                "peak scheduler MB": scheduler["peak"] / 1e6,
                                "bytes sent": sum(now) - sum(lines) + sent() - at,
                                "file": name,
                            }
                        ),
                        flush=True,
                    )


def scanpy_over_dask(census: str, organism: str, workers: list[int], cells: int, folder: Path) -> None:
    """Do the same job by scanpy over the lazy arrays of tiledbsoma, on the same cluster."""
    import scanpy as sc
    import tiledbsoma

    for n in workers:
        with cluster(n, folder, "20GB") as client, tiledbsoma.open(f"{census}/census_data/{organism}") as experiment:
            before, own, started, mine = client.run(usage), client.run_on_scheduler(usage), time.monotonic(), usage()
            with experiment.axis_query("RNA", obs_query=tiledbsoma.AxisQuery()) as query:
                adata = query.to_anndata("raw", dask={"chunk_size": cells})
            adata.layers["counts"] = adata.X.copy()
            sc.pp.filter_genes(adata, min_cells=50)
            sc.pp.normalize_total(adata, target_sum=1e4)
            sc.pp.log1p(adata)
            sc.pp.highly_variable_genes(adata, n_top_genes=1000)
            adata.write_h5ad(folder / "scanpy.h5ad")
            after, scheduler = client.run(usage), client.run_on_scheduler(usage)
            print(
                json.dumps(
                    {
                        "executor": f"scanpy over dask, {n}",
                        "wall": time.monotonic() - started,
                        "cpu client": usage()["cpu"] - mine["cpu"],
                        "cpu workers": [after[w]["cpu"] - before[w]["cpu"] for w in after if w in before],
                        "cpu scheduler": scheduler["cpu"] - own["cpu"],
                        "peak workers MB": [after[w]["peak"] / 1e6 for w in after],
                        "peak client MB": usage()["peak"] / 1e6,
                        "peak scheduler MB": scheduler["peak"] / 1e6,
                    }
                ),
                flush=True,
            )
            os.unlink(folder / "scanpy.h5ad")


def tasks(n: int, folder: Path) -> None:
    """Have so many tasks of a few cells done, and look at the scheduler."""
    from scipy import sparse

    from headrace.engine import cluster as engine
    from headrace.sources.arrays import ArraySource

    engine.RANGES_A_WORKER = n
    X = sparse.random_array((n, 200), density=0.2, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    X.data[:] = 1 + np.arange(len(X.data)) % 9
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    of = ArraySource(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(200)]), n_obs=1)
    plan = hr.Plan(of, [hr.FilterGenes(min_cells=3), hr.NormalizeTotal(1e4), hr.Log1p()])
    times: list[tuple[str, float]] = []
    with cluster(2, folder) as client:
        client.run(count_bytes)
        client.run_on_scheduler(count_bytes)
        count_bytes()
        before, at = client.run_on_scheduler(usage), sent() + client.run_on_scheduler(sent)
        lines = sum(client.run(sent).values())
        started = time.monotonic()
        plan.write_h5ad(
            folder / "tasks.h5ad",
            memory=MEMORY,
            executor=hr.Distributed(client),
            on_event=lambda event: times.append((type(event).__name__, time.monotonic() - started)),
        )
        wall, after = time.monotonic() - started, client.run_on_scheduler(usage)
        size = sent() + client.run_on_scheduler(sent) + sum(client.run(sent).values()) - at - lines
    print(
        json.dumps(
            {
                "tasks": 2 * n,
                "wall": wall,
                "tasks a second": 2 * n / wall,
                "scheduler CPU ms a task": 1e3 * (after["cpu"] - before["cpu"]) / (2 * n),
                "scheduler peak MB": [before["peak"] / 1e6, after["peak"] / 1e6],
                "bytes a task": size / (2 * n),
                "passes": [one for one in times if one[0].startswith("Pass")],
            }
        )
    )


def main() -> None:
    """Read the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["compare", "scanpy", "tasks"])
    parser.add_argument("--census")
    parser.add_argument("--organism", default="homo_sapiens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--cells", type=int, default=5_000, help="of a chunk of scanpy's")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if asked.what == "compare":
            compare(asked.census, asked.organism, asked.rounds, asked.workers, Path(name))
        elif asked.what == "scanpy":
            scanpy_over_dask(asked.census, asked.organism, asked.workers, asked.cells, Path(name))
        else:
            tasks(asked.n, Path(name))


if __name__ == "__main__":
    main()

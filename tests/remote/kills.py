"""Kill exports of one pass from a remote source at random moments, go on, and count what was fetched in all.

    python tests/remote/kills.py --kills 20 --census PATH --mbit 200 --delay 0.05

Each chain is an export that is killed (SIGKILL) when a random part of its bytes has passed the proxy, and one that goes
on. The file is that of an undisturbed run to the byte, nothing is left beside it, and both together fetch at most 5 %
more than one run (that cells and genes are looked up twice is not counted). What is in socket buffers when a process is
killed is lost, so X should have 50 MB or more, and the machine be idle. Without a Census, one is built.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.remote.proxy import Proxy
from tests.remote.server import serve

MOST = 1.05
"""Bytes of a run that was killed and one that goes on, as a part of those of one run."""

EXPORT = """
import json, sys, warnings
import headrace as hr
uri, organism, reader, out, config = sys.argv[1:]
warnings.simplefilter("ignore")
with hr.open_census(uri, tiledb_config=json.loads(config), reader=reader, retry_for=60) as census:
    source = census.query(organism)
    plan = hr.Plan(source, [hr.NormalizeTotal(1e4), hr.Log1p()])
    print("planned", plan.explain().fetched_bytes, flush=True)
    plan.write_h5ad(out, overwrite=True)
"""


def settings(port: int) -> dict[str, str]:
    """Return how to reach a server on this machine."""
    return {
        "vfs.s3.endpoint_override": f"127.0.0.1:{port}",
        "vfs.s3.scheme": "http",
        "vfs.s3.use_virtual_addressing": "false",
        "vfs.s3.no_sign_request": "true",
        "vfs.s3.region": "us-east-1",
    }


@dataclass
class Chains:
    """Exports behind one line.

    Parameters
    ----------
    server
        Port of the S3 server.
    folder
        Where to write.
    """

    server: int
    folder: Path
    organism: str = "homo_sapiens"
    reader: str = "tiles"
    delay: float = 0.0
    rate: float | None = None

    def __post_init__(self) -> None:
        self.out = self.folder / "out.h5ad"
        self.opening = 0

    def run(self, kill_at: int | None = None) -> tuple[int, bool]:
        """Export; return the bytes that passed, and whether it was killed when so many had."""
        with Proxy(self.server, self.delay, self.rate) as line:
            arguments = ["s3://census/soma", self.organism, self.reader, str(self.out), json.dumps(settings(line.port))]
            command = [sys.executable, "-c", EXPORT, *arguments]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                if kill_at is None:
                    said = process.stdout.readline()  # when all is looked up
                    self.opening, self.planned = line.bytes, int(said.split()[1]) if said else 0
                while process.poll() is None:
                    if kill_at is not None and line.bytes >= kill_at:
                        process.send_signal(signal.SIGKILL)
                    time.sleep(0.005)
                assert process.returncode in (0, -signal.SIGKILL), process.stderr.read()
            return line.bytes, process.returncode != 0

    def campaign(self, kills: int, seed: int) -> dict[str, Any]:
        """Run chains; return figures."""
        rng = random.Random(seed)
        whole, _ = self.run()
        sha = hashlib.sha256(self.out.read_bytes()).hexdigest()
        figures: dict[str, Any] = {"seed": seed, "one_run": whole, "opening": self.opening, "planned": self.planned}
        figures["planned_of_fetched"] = round(self.planned / (whole - self.opening), 4)
        parts: list[float] = []
        failures = 0
        while len(parts) < kills:
            self.out.unlink(missing_ok=True)
            kill_at = int(rng.uniform(0.0, 0.99) * whole)
            first, killed = self.run(kill_at)
            if not killed:
                continue
            second, _ = self.run()
            # to look up cells and genes again is not what this is about; it is counted once
            parts.append((first + second - min(self.opening, first)) / whole)
            good = hashlib.sha256(self.out.read_bytes()).hexdigest() == sha and parts[-1] <= MOST
            left = sorted(path.name for path in self.folder.iterdir())
            failures += not good or left != ["out.h5ad"]
            print(
                f"  killed at {first / whole:.2f} of a run, in all {parts[-1]:.3f}{'' if good else ' FAILED'}",
                flush=True,
            )
        return {**figures, "kills": kills, "most": max(parts), "mean": sum(parts) / len(parts), "failures": failures}


def large(path: Path) -> Path:
    """Build a Census with an X of about 60 MB."""
    from headrace.testing import SimulatedDataset, build_census

    kinds = [SimulatedDataset(8_000, n_vars=2800, nnz_per_cell=1000) for _ in range(4)]
    return build_census(path, {"homo_sapiens": kinds}, layers=["raw"])


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--census", type=lambda text: Path(text) if text else None, help="the folder of a Census, local"
    )
    parser.add_argument("--organism", default="homo_sapiens")
    parser.add_argument("--reader", default="tiles", choices=["tiles", "tiledb"])
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--mbit", type=float, default=200)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="headrace-line-"))
    try:
        census = asked.census
        if census is None:
            census = large(folder / "census")
        for name in ("server", "out"):
            (folder / name).mkdir()
        with serve(census, folder / "server") as port:
            chains = Chains(port, folder / "out", asked.organism, asked.reader, asked.delay, asked.mbit * 125_000)
            figures = chains.campaign(asked.kills, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures))
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())

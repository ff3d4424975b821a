"""Every fault, at every place, with both readers, once and often, with the time-outs that users have.

    python tests/remote/campaign.py [--seed 1]

Each run behind the proxy must end with the file of an undisturbed run, or with an error in one line that names a
remedy; what may pass must pass. "503" comes 20 times in a row. Bytes are flipped at random in the files of X: how many
are noticed is printed, and of those that are not, which numbers differ.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

import headrace as hr
from headrace.errors import SourceError
from headrace.events import Fetched
from headrace.testing import build_demo_census
from tests.remote.kills import settings
from tests.remote.proxy import FAULTS, S3_ERRORS, Proxy, Rule
from tests.remote.server import serve

PLACES = {"opening": "census_info/datasets/", "obs": "homo_sapiens/obs/", "X": "X/raw/__fragments"}
STEPS = [hr.NormalizeTotal(1e4), hr.Log1p()]
STAYING = set(S3_ERRORS) - {"500", "503"}


def export(port: int, out: Path, reader: Any) -> tuple[str, int]:
    told: list[Any] = []
    census = hr.open_census("s3://census/soma", tiledb_config=settings(port), reader=reader, retry_for=300)
    hr.Plan(census.query("homo_sapiens"), STEPS).write_h5ad(out, overwrite=True, on_event=told.append)
    retries = [event.retries for event in told if isinstance(event, Fetched)][-1]
    return hashlib.sha256(out.read_bytes()).hexdigest(), retries


def faults(port: int, folder: Path) -> list[str]:
    """Try all faults; return what failed."""
    out, failed = folder / "out.h5ad", []
    whole, _ = export(port, out, "tiles")
    for reader in ("tiles", "tiledb"):
        for place, match in PLACES.items():
            for fault in FAULTS:
                for times in (1, 20 if fault == "503" else 1000 if fault in STAYING else 3):
                    rule = Rule(fault, match, skip=4 if place == "X" else 0, times=times)
                    begun = time.monotonic()
                    with Proxy(port, rules=[rule], down=3) as line:
                        try:
                            found, retries = export(line.port, out, reader)
                            good, said = (
                                found == whole,
                                f"the same file, {retries} retries" if found == whole else "OTHER",
                            )
                        except SourceError as error:
                            said = str(error)
                            good = "\n" not in said and (fault in STAYING or fault == "flip")
                    seconds = time.monotonic() - begun
                    text = f"{reader}, {place}, {fault} x {times}: {seconds:.0f} s, {said}"
                    print(f"  {text}{'' if good else '  FAILED'}", flush=True)
                    failed += [] if good else [text]
    return failed


def flips(census: Path, n: int, seed: int) -> dict[str, Any]:
    """Flip bits of X on the disk, and read it as from far away; return what became of them."""
    from headrace.sources.ranges import CellRange
    from headrace.sources.soma.sums import compare_totals
    from headrace.sources.tiles import Line, TileReader, open_fragments

    rng = random.Random(seed)
    source = hr.open_census(census).query("homo_sapiens", genes="all")
    obs = next(iter(source.read(source.refs(10**9)))).obs
    joinids, nnz = np.arange(len(obs)), obs["nnz"].to_numpy()
    array = census / "census_data/homo_sapiens/ms/RNA/X/raw"

    def read() -> Any:
        fragments = open_fragments(str(array), {})
        genes = np.arange(fragments[0].footer.columns[1] + 1, dtype=np.int32)
        reader = TileReader(fragments, joinids, nnz, genes, line=Line(False), add_up=True)
        X = next(reader.read([CellRange(0, len(obs))]))
        compare_totals(reader.totals.pop(0), X, obs, complete=True)
        return X

    truth = read()
    seen: collections.Counter[str] = collections.Counter()
    for name in ("d0", "d1", "a0"):
        (path,) = array.glob(f"__fragments/*/{name}.tdb")
        stored = path.read_bytes()
        for _ in range(n):
            broken = bytearray(stored)
            broken[rng.randrange(len(stored))] ^= 1 << rng.randrange(8)
            path.write_bytes(broken)
            try:
                X = read()
            except (SourceError, hr.InputError):
                seen[f"{name} noticed"] += 1
                continue
            same = np.array_equal(X.indices, truth.indices), np.array_equal(X.data, truth.data)
            seen[f"{name} {'harmless' if all(same) else 'OTHER GENES' if same[1] else 'OTHER VALUES'}"] += 1
        path.write_bytes(stored)
    return dict(sorted(seen.items()))


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=300, help="in each file of X")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-flips", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="headrace-line-") as name:
        folder = Path(name)
        census = build_demo_census(folder / "census")
        figures: dict[str, Any] = {"failed": []}
        if not asked.only_flips:
            (folder / "server").mkdir()
            with serve(census, folder / "server") as port:
                figures["failed"] = faults(port, folder)
        figures["flips"] = flips(census, asked.flips, asked.seed)
    print(json.dumps(figures))
    return 1 if figures["failed"] or any("VALUES" in name for name in figures["flips"]) else 0


if __name__ == "__main__":
    sys.exit(main())

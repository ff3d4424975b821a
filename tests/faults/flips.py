"""Flip bits anywhere in a file: `verify` finds them, or they make no difference to what is read.

    python tests/faults/flips.py --flips 300 --seed 1

Counts for each flipped bit: found; harmless (every dataset and attribute reads as before: gaps, unused fields);
missed (something reads otherwise and `verify` says nothing); crashed or hung (HDF5 on a broken file).
"""

from __future__ import annotations

from jobs import OLD, TWO_PASSES, Case, FaultError, export, fork, prepare, show, wait, wait_patiently  # isort: skip # before numpy

import argparse
import mmap
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import headrace as hr

CASES = {
    "plain": Case("plain", TWO_PASSES, old=OLD, small=True),
    "gzip": Case("gzip", TWO_PASSES, "gzip", old=OLD, small=True),
    "no checksum": Case("no checksum", TWO_PASSES, old=OLD, small=True, checksum=False),
}
FOUND, HARMLESS, MISSED, CRASHED, HUNG = 1, 2, 3, 4, 5
WORDS = {FOUND: "found", HARMLESS: "harmless", MISSED: "missed", CRASHED: "crashed", HUNG: "hung"}
PATIENCE = 60.0
"""Seconds for one file."""


def content(path: Path) -> dict[str, Any]:
    """Read every dataset and attribute of a file."""
    out: dict[str, Any] = {}
    with h5py.File(path) as file:

        def look(name: str, entry: Any) -> None:
            for key in entry.attrs:
                value = np.asarray(entry.attrs[key])
                out[f"{name} @{key}"] = (str(value.dtype), value.tolist())
            if isinstance(entry, h5py.Dataset):
                value = np.asarray(entry[()])
                read = value.tolist() if value.dtype.kind == "O" else value.tobytes()
                out[name] = (str(entry.dtype), entry.shape, read)
            else:
                out[name] = sorted(entry)

        look("/", file)
        file.visititems(look)
    return out


def look(path: Path, before: dict[str, Any]) -> int:
    """Verify a file; say whether anything is found, or else reads otherwise."""
    try:
        if hr.verify_h5ad(path).problems:
            return FOUND
    except hr.InputError:
        return FOUND
    return HARMLESS if content(path) == before else MISSED


def _flip_all(
    original: bytes, bits: list[int], start: int, path: Path, before: dict[str, Any], results: mmap.mmap
) -> None:
    for number, at in enumerate(bits[start:], start):
        flipped = bytearray(original)
        flipped[at // 8] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        results[number] = look(path, before)


def main() -> int:
    """Flip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=300, help="of each file")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    bad = 0
    with tempfile.TemporaryDirectory(prefix="headrace-flips-") as name:
        folder = Path(name)
        prepare(folder, census=False)
        for kind, case in CASES.items():
            rng = random.Random(f"{given.seed} {kind}")
            path, broken = folder / f"{kind}.h5ad", folder / "broken.h5ad"
            path.write_bytes(OLD)
            if wait(fork(lambda case=case, path=path: export(case, folder, path), folder / "log")):
                raise FaultError((folder / "log").read_text())
            original = path.read_bytes()
            before = content(path)
            assert wait(fork(lambda path=path, before=before: look(path, before), folder / "log")) == HARMLESS
            bits = [rng.randrange(len(original) * 8) for _ in range(given.flips)]
            results = mmap.mmap(-1, len(bits))
            done = 0
            while done < len(bits):  # a child goes on until a file makes it crash
                child = fork(lambda: _flip_all(original, bits, done, broken, before, results), folder / "log")  # noqa: B023 # waited for
                code = wait_patiently(child, results, PATIENCE)
                done = next((k for k in range(done, len(bits)) if results[k] == 0), len(bits))
                if done < len(bits):
                    results[done] = HUNG if code is None else CRASHED
                    print((folder / "log").read_text()[-2000:], flush=True)
                    done += 1
            seen = Counter(WORDS[result] for result in results[:])
            for at, result in zip(bits, results[:], strict=True):
                if result not in (FOUND, HARMLESS):
                    bad += 1
                    print(f"{kind}: bit {at % 8} of byte {at // 8} of {len(original)}: {WORDS[result]}", flush=True)
            figures[kind] = dict(seen)
    show({"seed": given.seed, **figures})
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""A Census whose tables are as long as the real one's: what queries, counts, samples and exports take of memory.

`make bench-wide CENSUS=PATH`, with a Census of `make_wide_census.py` (10 million cells, 1,600 datasets, ten non-zeros a
cell). Each line is a process of its own; `headrace explain` and `headrace count` read no X.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from harness.measure import run

WHOLE = ("--genes", "any", "--keep-duplicates", "--memory", "1GB")
NLH = ("--target-sum", "1e4", "--log1p", "--hvg", "2000")
LUNG = ("--obs-filter", "tissue_general == 'lung'", "--primary-only")
LINES: dict[str, tuple[str, ...]] = {
    "explain, all cells": ("explain", *WHOLE, *NLH),
    "explain, lung": ("explain", *WHOLE[:2], *WHOLE[3:], *LUNG, *NLH),
    "explain, a tenth of each cell type and donor": (
        *("explain", *WHOLE, "--sample", "0.1"),
        *("--sample-by", "cell_type,donor_id"),
    ),
    "count by cell_type and assay": ("count", "--by", "cell_type,assay", "--csv"),
    "export, HVG": ("export", *WHOLE, *NLH),
    "export, HVG seurat_v3": (
        "export",
        *WHOLE,
        "--layer",
        "counts",
        *NLH,
        "--hvg-flavor",
        "seurat_v3",
        "--hvg-layer",
        "counts",
    ),
    "export, HVG by dataset": ("export", *WHOLE, *NLH, "--hvg-batch", "dataset_id"),
    "export, filters and HVG": ("export", *WHOLE, "--min-genes", "5", "--min-cells", "5", *NLH),
}


def main() -> None:
    """Run every line and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--census", required=True, help="root of the Census")
    parser.add_argument("--only", default="", help="lines whose name has this in it")
    given = parser.parse_args()
    print(f"{'':<46}{'status':<8}{'wall':>9}{'CPU':>9}{'peak':>12}")
    with tempfile.TemporaryDirectory(prefix="wide-") as folder:
        work = Path(folder)
        for name, (command, *options) in LINES.items():
            if given.only not in name:
                continue
            where = ["--census", str(Path(given.census).absolute()), "--organism", "homo_sapiens"]
            out = ["--out", str(work / "out.h5ad"), "--overwrite"] if command == "export" else []
            words = [sys.executable, "-m", "headrace", command, *where, *options, *out]
            got = run(words, work, timeout=3600, most_memory=8 << 30, log=work / "log")
            print(f"{name:<46}{got.status:<8}{got.wall:>7.1f} s{got.cpu:>7.1f} s{got.peak / 1e6:>9,.0f} MB", flush=True)


if __name__ == "__main__":
    main()

"""Where the inputs are, or how they come to be."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.jobs import Kind

BENCHMARKS = Path(__file__).resolve().parents[1]
CACHE = BENCHMARKS / "out" / "inputs"
BUILDER = BENCHMARKS.parents[1] / "shared" / "tools" / "make_mini_census.py"

SMARTSEQ2 = "-smartseq2"
GENES = 20_000
DATASETS: tuple[tuple[float, Any, float, int, str], ...] = (
    (0.24, "EFO:0009922", 0.97, 1500, "lung"),
    (0.20, "EFO:0009899", 0.90, 1300, "blood"),
    (0.16, "EFO:0009922", 1.00, 1600, "liver"),
    (0.14, "EFO:0011025", 0.85, 1350, "bone marrow"),
    (0.12, "EFO:0009922", 0.98, 1600, "lung"),
    (0.08, {"EFO:0009922": 0.9, "EFO:0008931": 0.1}, 0.97, 1500, "bone marrow"),
    (0.04, "EFO:0009899", 0.80, 900, "blood"),
    (0.02, "EFO:0008931", 0.95, 4000, "liver"),
)
"""The datasets of a benchmark Census: share of its cells, assay, share of the genes, non-zeros per cell, tissue."""

FULL_LENGTH = ((1.0, "EFO:0008931", 0.95, 9000, "liver"),)
"""The datasets of one that is all Smart-seq2."""


def cells_of(size: str) -> int:
    """Return the number of cells that a size means.

    Examples
    --------
    >>> cells_of("50k"), cells_of("10k-smartseq2")
    (50000, 10000)
    """
    match = re.fullmatch(r"(\d+)(k|m|)", size.removesuffix(SMARTSEQ2).lower())
    if match is None:
        raise SystemExit(f"{size!r} is no size: write e.g. 50k, or 10k{SMARTSEQ2}; others must be in the path given")
    return int(match.group(1)) * {"": 1, "k": 1_000, "m": 1_000_000}[match.group(2)]


def datasets(size: str) -> list[dict[str, Any]]:
    """Return the datasets of a Census of `size`."""
    n = cells_of(size)
    names = ("n_cells", "assay", "genes", "nnz_per_cell", "tissue")
    return [
        dict(zip(names, (round(share * n), *rest), strict=True))
        for share, *rest in (FULL_LENGTH if size.endswith(SMARTSEQ2) else DATASETS)
    ]


def locate(kind: Kind, size: str, given: str) -> Path:
    """Return the input of a size; build it if it is not there.

    Parameters
    ----------
    given
        A path in which `{size}` stands for the size, or "" for the cache folder of the benchmarks. A path that is
        given must exist.
    """
    if given:
        path = Path(given.replace("{size}", size)).absolute()
        if not path.exists():
            raise SystemExit(f"there is nothing at {path}")
        return path / "soma" if (path / "soma").is_dir() else path
    if kind == "h5ad":
        return _build(CACHE / f"{size}.h5ad", size, "harness.simulate", "h5ad")
    if BUILDER.exists():
        return _build(CACHE / size, size, str(BUILDER)) / "soma"
    return _build(CACHE / f"{size}.census", size, "harness.simulate", "census")


def read_by(kind: Kind, path: Path) -> Path:
    """Return the part of an input that is read, to warm it: of a Census, the raw counts."""
    return path if kind == "h5ad" else path / "census_data" / "homo_sapiens" / "ms" / "RNA" / "X" / "raw"


def _build(path: Path, size: str, builder: str, *what: str) -> Path:
    """Build an input beside its place, and move it there when it is whole."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{path.name}")
    print(f"building {path} (once)", flush=True)
    if what:
        command = [sys.executable, "-m", builder, *what, str(partial), size]
    else:
        spec = path.with_suffix(".json")
        spec.write_text(json.dumps({"n_genes": GENES, "organisms": {"homo_sapiens": datasets(size)}}))
        command = [sys.executable, builder, str(partial), "--spec", str(spec), "--overwrite"]
    subprocess.run(command, check=True, cwd=BENCHMARKS, stdout=subprocess.DEVNULL)
    partial.rename(path)
    return path

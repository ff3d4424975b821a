"""A table of 10,000 groups of cells by 60,000 genes within 1 GB: `make bench-groups`.

    python benchmarks/groups.py [--cells 100000] [--categories 100] [--genes 60000] [--out .h5ad,.parquet]

Makes an .h5ad file of counts whose cells belong to any of `categories` x `categories` groups, in no order, so that
every chunk has cells of every group and sums do not fit in memory; then `headrace aggregate` writes the table of it,
each kind in a process of its own. A table of text takes some 100 bytes for each group and gene: ask for fewer groups.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from harness.measure import run, stoppable, warm
from stream import OUT

CELLS_AT_ONCE = 2_000
MOST_BYTES = 1_000_000_000


def write_cells(path: Path, n: int, n_genes: int, categories: int, per_cell: int) -> None:
    """Write counts of `n` cells, CSR, a few thousand at a time: some genes are in most cells and most in few."""
    import anndata as ad
    import h5py
    import pandas as pd

    rng = np.random.default_rng(0)
    names = [f"{i:03d}" for i in range(categories)]
    obs = pd.DataFrame(
        {
            column: pd.Categorical.from_codes(rng.integers(categories, size=n), [f"{column} {name}" for name in names])
            for column in ("cell_type", "tissue")
        },
        [f"cell{i}" for i in range(n)],
    )
    var = pd.DataFrame(
        {"feature_name": [f"GENE{i}" for i in range(n_genes)]}, [f"ENSG{i:011d}" for i in range(n_genes)]
    )
    ad.AnnData(obs=obs, var=var).write_h5ad(path)
    indptr = np.zeros(n + 1, dtype=np.int64)
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        X = file.create_group("X")
        X.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([n, n_genes])})
        data, indices = (
            X.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 17,))
            for name, dtype in (("data", "f4"), ("indices", "i4"))
        )
        filled = 0
        for start in range(0, n, CELLS_AT_ONCE):
            stop = min(start + CELLS_AT_ONCE, n)
            cell = np.repeat(np.arange(stop - start, dtype=np.int64), per_cell)
            gene = (n_genes * rng.random(len(cell), dtype=np.float32) ** 2).astype(np.int64).clip(0, n_genes - 1)
            keys, counts = np.unique(cell * n_genes + gene, return_counts=True)
            indptr[start + 1 : stop + 1] = filled + np.searchsorted(keys, np.arange(1, stop - start + 1) * n_genes)
            filled += len(keys)
            for values, new in ((data, counts), (indices, keys % n_genes)):
                values.resize((filled,))
                values[filled - len(keys) :] = new
        X["indptr"] = indptr


def main() -> None:
    """Make the input, and a table of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--categories", type=int, default=100, help="of each of two columns")
    parser.add_argument("--genes", type=int, default=60_000)
    parser.add_argument("--per-cell", type=int, default=1_000, help="counts drawn for each cell")
    parser.add_argument("--out", default=".h5ad,.parquet", help="of .h5ad, .parquet, .csv, .csv.gz")
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--work", default=str(OUT))
    given = parser.parse_args()
    stoppable()
    Path(given.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work, prefix="groups-") as folder:
        work = Path(folder).absolute()
        cells = work / "cells.h5ad"
        write_cells(cells, given.cells, given.genes, given.categories, given.per_cell)
        print(f"{given.cells:,} cells, {given.genes:,} genes, {given.categories**2:,} groups, {given.memory}")
        for suffix in given.out.split(","):
            table = work / f"table{suffix}"
            options: Any = ["--by", "cell_type,tissue", "--memory", given.memory, "--out", str(table)]
            options += ["--target-sum", "1e4", "--log1p"]
            warm(cells)
            command = [sys.executable, "-m", "headrace", "aggregate", "--h5ad", str(cells), *options]
            got = run(command, work, timeout=7200, most_memory=8 << 30, log=work / "log")
            size = table.stat().st_size / 1e9 if table.exists() else 0.0
            said = got.status if got.status != "ok" else "kept" if got.peak <= MOST_BYTES else "ABOVE THE BUDGET"
            print(
                f"{suffix:<10}{got.wall:>8.1f} s{got.cpu:>8.1f} s CPU{got.peak / 1e6:>8,.0f} MB{size:>8.2f} GB  {said}",
                flush=True,
            )
            table.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

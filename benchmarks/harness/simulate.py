"""Simulated counts, negative binomial, as an h5ad file or (where ../shared is not there) a Census.

    python -m harness.simulate h5ad OUT.h5ad 50k
    python -m harness.simulate census OUT 50k

The h5ad file is written in pieces and can have any size; the Census is put together in memory, 30 bytes per non-zero.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.inputs import GENES, cells_of, datasets

NNZ_PER_CELL = 970
CLUSTERS = 12
CELLS_AT_ONCE = 500
DEPTH_SPREAD = 0.4

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Model:
    """Genes with log-normal means and overdispersions, clusters that differ in a fiftieth of them."""

    def __init__(self, n_genes: int = GENES, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        mean = np.tile(np.exp(rng.normal(0, 2, n_genes)), (CLUSTERS, 1))
        for row in mean:
            marked = rng.choice(n_genes, n_genes // 50, replace=False)
            row[marked] *= np.exp(rng.normal(1.2, 0.8, len(marked)))
        self.mean = mean / mean.sum(axis=1, keepdims=True)
        self.size = np.exp(rng.normal(0.7, 0.6, n_genes)).clip(0.15, 20)
        self.depth = self._calibrated()

    def _calibrated(self) -> float:
        """Return the total at which a cell has `NNZ_PER_CELL` genes."""
        low, high = 100.0, 1e6
        for _ in range(60):
            middle = np.sqrt(low * high)
            found = np.sum(1 - (1 + middle * self.mean[0] / self.size) ** -self.size)
            low, high = (middle, high) if found < NNZ_PER_CELL else (low, middle)
        return float(low)

    def draw(self, seed: int, n: int) -> tuple[Ints, Ints, npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return the cluster of each of `n` cells, and genes per cell, genes and counts, all of CSR."""
        rng = np.random.default_rng([1, seed])
        cluster = rng.integers(CLUSTERS, size=n)
        total = self.depth * np.exp(rng.normal(-(DEPTH_SPREAD**2) / 2, DEPTH_SPREAD, n))
        mean = self.mean[cluster] * total[:, None]
        counts = rng.negative_binomial(self.size, self.size / (self.size + mean))
        cell, gene = np.nonzero(counts)
        return cluster, np.bincount(cell, minlength=n), gene.astype(np.int32), counts[cell, gene].astype(np.float32)


def pieces(n: int, model: Model) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Draw `n` cells on all cores, in order."""
    workers = len(os.sched_getaffinity(0))
    starts = range(0, n, CELLS_AT_ONCE)
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(starts), workers):  # so many at once, not all of them
            group = starts[first : first + workers]
            yield from pool.map(lambda start: model.draw(start, min(CELLS_AT_ONCE, n - start)), group)


def write_h5ad(path: Path, size: str) -> None:
    """Write counts as anndata does: X in CSR, float32, uncompressed."""
    import anndata as ad
    import h5py
    import pandas as pd

    n, model = cells_of(size), Model()
    obs = pd.DataFrame(
        {"batch": pd.Categorical.from_codes(np.arange(n) % 4, list("abcd"))}, [f"cell{i}" for i in range(n)]
    )
    names = ["MT-" * (i < 13) + f"GENE{i}" for i in range(GENES)]
    var = pd.DataFrame({"feature_name": names}, [f"ENSG{i:011d}" for i in range(GENES)])
    ad.AnnData(obs=obs, var=var).write_h5ad(path)
    indptr, clusters = np.zeros(n + 1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        X = file.create_group("X")
        X.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([n, GENES])})
        data, indices = (
            X.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 17,))
            for name, dtype in (("data", "f4"), ("indices", "i4"))
        )
        cell = filled = 0
        for cluster, per_cell, genes, counts in pieces(n, model):
            clusters[cell : cell + len(per_cell)] = cluster
            indptr[cell + 1 : cell + 1 + len(per_cell)] = filled + np.cumsum(per_cell)
            cell, start, filled = cell + len(per_cell), filled, filled + len(genes)
            for values, new in ((data, counts), (indices, genes)):
                values.resize((filled,))
                values[start:] = new
        X["indptr"] = indptr.astype(np.int32 if filled < 2**31 else np.int64)
        obs["cell_type"] = pd.Categorical.from_codes(clusters, [f"type {i}" for i in range(CLUSTERS)])
        ad.io.write_elem(file, "obs", obs)


def write_census(path: Path, size: str) -> None:
    """Write a Census with the datasets of `harness.inputs`, through headrace.testing."""
    import pandas as pd

    from headrace.testing import SimulatedDataset, build_census, genes

    real = genes("homo_sapiens")
    more = pd.DataFrame(index=pd.Index([f"ENSG9{i:010d}" for i in range(GENES - len(real))], name=real.index.name))
    more["feature_name"], more["feature_type"] = [f"GENE{i}" for i in range(len(more))], "protein_coding"
    more["feature_length"] = np.random.default_rng(0).integers(300, 12_000, len(more))
    recipes = [
        SimulatedDataset(
            one["n_cells"], one["assay"], round(one["genes"] * GENES), None, one["nnz_per_cell"], tissue=one["tissue"]
        )
        for one in datasets(size)
    ]
    build_census(path, {"homo_sapiens": recipes}, layers=("raw",), genes={"homo_sapiens": pd.concat([real, more])})


if __name__ == "__main__":
    {"h5ad": write_h5ad, "census": write_census}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])

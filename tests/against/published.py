"""The published studies and expected values in ../shared/data, as plain tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from headrace.sources.arrays import ArraySource

STUDIES = (
    "mouse/tms_liver_smartseq2",
    "mouse/goolam_embryo_smartseq2",
    "mouse/fetal_liver_hepatoblast",
    "mouse/ziegenhain_mesc_smartseq",
    "mouse/heart_1k_v2",
    "mouse/neurons_10k_x_1000genes",
    "human/pancreas_smartseq2",
    "human/ngp_neuroblastoma_c1",
    "human/pollen_smarter",
    "human/pbmc3k",
)


def matrix(folder: Path) -> sparse.csr_matrix:
    """Read X.parquet, in float64."""
    triplets = pd.read_parquet(folder / "X.parquet")
    shape = len(pd.read_parquet(folder / "obs.parquet")), len(pd.read_parquet(folder / "var.parquet"))
    values = triplets["count"].to_numpy(np.float64)
    return sparse.csr_matrix((values, (triplets["cell"], triplets["gene"])), shape=shape)


def study(shared: Path, name: str, min_cells: int = 3) -> tuple[sparse.csr_matrix, pd.DataFrame, pd.DataFrame]:
    """Return the counts of a study in float64, without cells that have none and genes of few cells; obs; var.

    `obs` has two made-up batch columns: scanpy knows only text there, so the second joins the pairs.
    """
    folder = shared / "data" / "sc" / name
    X = matrix(folder)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(X.shape[0])])
    obs["batch"] = pd.Categorical(np.array(["x", "y", "z"])[np.random.default_rng(1).integers(0, 3, len(obs))])
    var = pd.read_parquet(folder / "var.parquet").astype({"feature_length": "int64"})
    var.index = [f"g{i}" for i in range(len(var))]
    X = X[np.asarray(X.sum(axis=1)).ravel() > 0]
    keep = np.asarray((X > 0).sum(axis=0)).ravel() >= min_cells
    return X[:, keep].tocsr(), obs.iloc[: X.shape[0]], var[keep]


def held(X: sparse.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame, n_obs: int = 333) -> ArraySource:
    """Return a source in small chunks."""
    return ArraySource(X, obs, var, n_obs=n_obs)

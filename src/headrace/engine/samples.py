"""What a report looks at where rows are samples: each one's library, and mean against variance of genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import StreamSpec
from ..stats.cells import library_sizes
from ..stats.distributions import LOG_EDGES, places
from ..stats.groups import Groups
from ..stats.moments import Moments, MomentSums
from ..stats.samples import PerSample
from ..support.columns import floats

MOST_SAMPLES = 100
"""Samples that are kept one by one; of more there are distributions only."""

FACTOR = 0.02
"""The width of the bins of normalisation factors."""

FROM_OBS = ("norm_factors", "effective_libsize", "size_factors", "n_cells")
"""Columns of `obs` that are told of each sample, where it has them."""


def libraries(spec: StreamSpec) -> PerSample:
    """Return what collects the library of each sample."""
    del spec
    return PerSample(library)


def library(X: sparse.csr_array, obs: pd.DataFrame) -> Mapping[str, npt.NDArray[Any]]:
    """Measure the sum of each row, its genes above zero, and what `obs` says of its size."""
    more = {name: floats(obs[name]) for name in FROM_OBS if name in obs and obs[name].dtype.kind in "fiu"}
    return {"libsize": library_sizes(X), "n_genes": np.diff(X.indptr).astype(np.float64), **more}


def moments(spec: StreamSpec) -> MomentSums:
    """Return what sums up mean and variance of each gene over samples."""
    return MomentSums(Groups(), spec.n_vars)


def kept_samples(table: pd.DataFrame | None, order: Sequence[Any] | None) -> dict[str, Any] | None:
    """Return the libraries as plain data: of each sample, or of many their distribution.

    Parameters
    ----------
    table
        As `libraries` finds it, in order of the ids.
    order
        The ids as they come, if that is known.
    """
    if table is None:
        return None
    if order is not None:
        table = table.loc[[name for name in order if name in table.index]]
    columns = {name: table[name].to_numpy(np.float64) for name in table}
    out: dict[str, Any] = {"n": len(table), "libsize": _distribution(columns["libsize"])}
    if "norm_factors" in columns:
        out["norm_factors"] = _distribution(columns["norm_factors"], FACTOR)
    if len(table) <= MOST_SAMPLES:
        out["names"] = [str(name) for name in table.index]
        out["columns"] = {name: [_short(x) for x in values] for name, values in columns.items()}
    return out


def _short(x: float) -> float | None:
    return float(f"{x:.10g}") if np.isfinite(x) else None


def _distribution(values: npt.NDArray[np.float64], wide: float = 0.0) -> dict[str, Any]:
    """Return a distribution as those of cells are kept (`stats/distributions.py`), or in bins of an even width."""
    there = values[np.isfinite(values)]
    bins = np.floor(np.clip(there, 0, 1e6) / wide).astype(np.int64) if wide else places(there, LOG_EDGES)
    at, n = np.unique(bins, return_counts=True)
    return {
        "bins": [[int(i), int(k)] for i, k in zip(at, n, strict=True)],
        "missing": len(values) - len(there),
        "least": _short(there.min()) if len(there) else None,
        "most": _short(there.max()) if len(there) else None,
    }


def kept_variances(found: Moments | None) -> list[list[int]] | None:
    """Return genes in the plane of mean and variance over samples, by bins of `LOG_EDGES`: two numbers, and genes."""
    if found is None or found.n[0] < 2:
        return None
    mean, var = found.mean[0], found.var[0]
    there = (mean > 0) & (var > 0) & np.isfinite(var)
    at = np.stack([places(mean[there], LOG_EDGES), places(var[there], LOG_EDGES)], axis=1)
    cells, n = np.unique(at, axis=0, return_counts=True)
    return [[*map(int, one), int(k)] for one, k in zip(cells, n, strict=True)] or None

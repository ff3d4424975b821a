"""Pseudobulk: sums of cells by group, as samples."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Holds, StreamSpec, csr
from ..errors import InputError, PlanError, RoundedCountsWarning, nearest
from ..protocols import Accumulator, Fit, Source
from ..sources.arrays import ArraySource, rounded
from ..stats.groups import refuse_many
from ..stats.groupsums import GroupSums, GroupTotals
from ..stats.representation import Representation
from ..support.columns import column
from ..support.given import check_fields
from .bounds import need_cells

Integers = npt.NDArray[np.int64]

DENSE_VALUES = 4_000_000
"""At most so many values per chunk of samples if a later step makes them dense."""


@dataclass(frozen=True)
class Pseudobulk(Fit):
    """Sum the cells of each group into one sample; the stream goes on with the samples.

    `obs` of the samples: the group columns, every other column that has one value in each group, `n_cells`, and
    `n_counts` (the sum of the group's values over all genes), and both again as `psbulk_cells` and `psbulk_counts`,
    by which decoupler filters. The index joins the group's values with "|"; a
    "|" or backslash within a value gets a backslash before it. Samples come in the order of the group columns'
    categories, cells without a value in one of them are left out, and `uns["pseudobulk"]` says how many.

    Parameters
    ----------
    by
        Columns of `obs`, e.g. ``["donor_id", "cell_type"]``.
    min_cells
        Groups of fewer cells are left out.
    layer
        Name of a saved layer; None for `X`. Layers end here.
    how
        "sum"; "mean"; or "count": in how many cells of the group a gene is above zero.

    Raises
    ------
    PlanError
        If a column or layer is missing, or logged values are to be summed.
    InputError
        If no group is large enough.

    Warns
    -----
    RoundedCountsWarning
        If a sum above 2**24 is not a float32, which is what X holds.

    Notes
    -----
    One pass; sums are exact and sparse, about 12 bytes per non-zero of the result. The same sums as decoupler's
    `pseudobulk` and `scanpy.get.aggregate`. X is written dense, as pydeseq2 needs it; `dense=False` keeps it sparse.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.Pseudobulk(by=["donor_id", "cell_type"]).min_cells
    10
    """

    by: str | Sequence[str]
    min_cells: int = 10
    layer: str | None = None
    how: Literal["sum", "mean", "count"] = "sum"
    becomes_source = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "by", (self.by,) if isinstance(self.by, str) else tuple(self.by))
        if not self.by or len(set(self.by)) < len(self.by):
            raise InputError(f"Pseudobulk(by={list(self.by)!r}): one or more columns of obs, each once")
        if isinstance(self.min_cells, bool) or not isinstance(self.min_cells, int) or self.min_cells < 1:
            raise InputError(f"Pseudobulk(min_cells={self.min_cells!r}): a whole number from 1 on")
        if self.how not in ("sum", "mean", "count"):
            raise InputError(f"Pseudobulk(how={self.how!r}): 'sum', 'mean' or 'count'")

    @property
    def needs_counts(self) -> bool:
        """Sums are of counts; means may be of anything."""
        return self.how == "sum"

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless the columns and the layer are there; all of `obs` may turn out to be constant."""
        for name in self.by:
            if name not in spec.obs:
                raise PlanError(f"Pseudobulk: obs has no column {name!r}; {nearest(name, spec.obs.columns)}")
            if spec.values is not None and not isinstance(spec.obs[name].dtype, pd.CategoricalDtype):
                refuse_many(spec.values(name), "Pseudobulk", name, spec.obs[name].dtype)
        if self.layer is not None and self.layer not in spec.layers:
            raise PlanError(f"Pseudobulk: no layer {self.layer!r} was saved before; {nearest(self.layer, spec.layers)}")
        holds = self._holds(spec.holds if self.layer is None else spec.layers[self.layer])
        kept = [name for name in spec.obs if name not in self.by]
        obs = spec.obs[[*self.by, *kept]].iloc[:0]
        n_obs = max(1, spec.n_obs // self.min_cells)
        made = StreamSpec(spec.var, obs, n_obs, spec.nnz, holds, values=spec.values, fractional=spec.fractional)
        made = replace(made, samples=True)
        return made.with_obs(n_cells="int64", n_counts="float64", psbulk_cells="int64", psbulk_counts="float64")

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Source[Any]]:
        """Sum up the groups; return the samples as a source."""
        totals: GroupTotals = yield GroupSums(
            self.by, spec.n_vars, Representation(self.layer), self.min_cells, detected=self.how == "count"
        )
        large = np.flatnonzero(totals.n_cells >= self.min_cells)
        if not len(large):
            need_cells(totals.keys or totals.n_missing, spec)
            most = max(totals.n_cells, default=0)
            raise InputError(
                f"Pseudobulk: none of {len(totals.keys)} groups has {self.min_cells} cells; the largest has {most}. "
                "Lower min_cells, or group by fewer columns"
            )
        obs = self._obs(totals, spec.obs, large)
        order = np.lexsort([_rank(obs[name]) for name in reversed(self.by)])
        obs = obs.iloc[order]
        X, n_counts = self._assemble(totals, large[order], spec.n_vars, obs, spec.var.index)
        dropped = np.delete(totals.n_cells, large)
        about = {
            "by": np.array(self.by, dtype=object),
            "how": self.how,
            "min_cells": self.min_cells,
            "n_small_groups": len(dropped),
            "n_cells_in_small_groups": int(dropped.sum()),
            "n_cells_without_group": totals.n_missing,
        }
        holds = self._holds(spec.holds if self.layer is None else spec.layers[self.layer])
        uns = spec.uns if holds == Holds.LOGGED else {}  # what it says of values is no longer so
        return ArraySource(
            X,
            obs.assign(n_counts=n_counts, psbulk_cells=obs["n_cells"], psbulk_counts=n_counts),
            spec.var,
            holds,
            n_obs=max(1, DENSE_VALUES // max(1, spec.n_vars)),
            uns={**uns, "pseudobulk": about},
            samples=True,
        )

    def _holds(self, before: Holds) -> Holds:
        if self.how == "count":
            return Holds.COUNTS
        if self.how == "sum" and before in (Holds.LOGGED, Holds.STANDARDIZED):
            raise PlanError(
                f"Pseudobulk: the values are {before} here, and their sum means nothing; sum the counts "
                "(SaveLayer('counts') earlier and layer='counts'), or use how='mean'"
            )
        if before in (Holds.LOGGED, Holds.STANDARDIZED):
            return before
        return Holds.COUNTS if self.how == "sum" and before != Holds.NORMALIZED else Holds.NORMALIZED

    def _obs(self, totals: GroupTotals, columns: pd.DataFrame, large: npt.NDArray[np.int64]) -> pd.DataFrame:
        """Describe the samples, in the order of `large`."""
        keys = [totals.keys[at] for at in large]
        obs = pd.DataFrame(index=pd.Index([_join(key) for key in keys]))
        parts = {name: [key[at] for key in keys] for at, name in enumerate(self.by)}
        parts |= {name: [values[at] for at in large] for name, values in totals.constant.items()}
        for name, values in parts.items():
            obs[name] = column(values, columns[name].dtype, obs.index)
        return obs.assign(n_cells=totals.n_cells[large])

    def _assemble(
        self, totals: GroupTotals, rows: Integers, n_vars: int, obs: pd.DataFrame, genes: pd.Index
    ) -> tuple[sparse.csr_array, npt.NDArray[np.float64]]:
        """Put the sums of the chosen groups together as X, row by row, and return their totals."""
        place = np.full(len(totals.keys), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        lengths = np.zeros(len(totals.keys) + 1, dtype=np.int64)
        for part in totals.parts:
            lengths[part.groups] = np.diff(part.indptr)
        indptr = np.concatenate([[0], np.cumsum(lengths[rows])])
        data, indices = np.empty(indptr[-1], dtype=np.float32), np.empty(indptr[-1], dtype=np.int32)
        n_counts = np.zeros(len(rows))
        many = _Rounded()
        for part in totals.parts:
            for row, to in enumerate(place[part.groups].tolist()):
                if to >= 0:
                    sums, genes_here = part.floats(row, row + 1), part.indices[part.indptr[row] : part.indptr[row + 1]]
                    n_counts[to] = fsum(sums)
                    if self.how == "mean":
                        sums /= obs["n_cells"].iat[to]
                    else:
                        many.check(sums, genes_here, obs.index[to], genes)
                    data[indptr[to] : indptr[to + 1]] = sums
                    indices[indptr[to] : indptr[to + 1]] = genes_here
        many.warn()
        return csr(data, indices, indptr, n_vars), n_counts


class _Rounded:
    """Remembers sums that float32 cannot hold."""

    def __init__(self) -> None:
        self.n, self.example = 0, ""

    def check(
        self, sums: npt.NDArray[np.float64], indices: npt.NDArray[np.int32], sample: str, genes: pd.Index
    ) -> None:
        at = rounded(sums)
        if len(at) and not self.n:
            self.example = f"{sums[at[0]]:.0f} in sample {sample!r}, gene {genes[indices[at[0]]]!r}"
        self.n += len(at)

    def warn(self) -> None:
        if self.n:
            warnings.warn(
                f"Pseudobulk: {self.n} sums are no float32 numbers and are rounded in X, by at most 6e-8 of their "
                f"value, e.g. {self.example}; obs['n_counts'] is exact",
                RoundedCountsWarning,
                stacklevel=4,
            )


def _join(key: tuple[Any, ...]) -> str:
    """Make one id of a group's values, from which they can be told again."""
    if len(key) == 1:
        return str(key[0])
    return "|".join(str(value).replace("\\", "\\\\").replace("|", "\\|") for value in key)


def _rank(values: pd.Series) -> npt.NDArray[np.int64]:
    """Return the place of each value: among the categories, or in sorted order."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return np.asarray(values.cat.codes, dtype=np.int64)
    return np.asarray(pd.Categorical(values).codes, dtype=np.int64)

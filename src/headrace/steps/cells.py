"""Filters of cells: by bounds, or by their distance from the median."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Limit, Matrix, StreamSpec
from ..errors import InputError
from ..protocols import Accumulator, Fit, Transform
from ..stats.cells import ValuesByGroup, library_sizes
from ..stats.groups import Groups
from ..support.columns import floats
from ..support.given import check_fields
from .bounds import check_bounds, check_numeric, check_zero, filtered, within
from .select import take_cells

MAD = 1.4826
"""What makes the median absolute deviation estimate a normal standard deviation, as in R's `mad`."""

MOST_LIMITS = 100
"""Batches whose bounds are told, each."""


@dataclass(frozen=True)
class FilterCells(Transform):
    """Keep cells by their number of genes and their total, as `scanpy.pp.filter_cells`.

    Adds `obs["n_genes"]` (genes above zero) and/or `obs["n_counts"]` (sum), for the bounds given.

    Parameters
    ----------
    min_genes, max_genes
        Bounds on the number of genes above zero, inclusive.
    min_counts, max_counts
        Bounds on the cell's total, inclusive.
    min, max
        Bounds on columns of `obs`, of the source or of a step before, inclusive: `max={"pct_counts_mt": 20}`.
        A cell without a value (NaN) is not within any bound.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.FilterCells(min_genes=500, max={"pct_counts_mt": 20}).min_genes
    500
    """

    min_genes: int | None = None
    max_genes: int | None = None
    min_counts: float | None = None
    max_counts: float | None = None
    min: Mapping[str, float] | None = None
    max: Mapping[str, float] | None = None
    keeps_values = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_bounds("FilterCells", self)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells within the bounds."""
        mask = np.ones(chunk.n_obs, dtype=bool)
        if self.min_counts is not None or self.max_counts is not None:
            n_counts = library_sizes(chunk.X)
            chunk = chunk.with_obs(n_counts=n_counts)
            mask &= within(n_counts, self.min_counts, self.max_counts)
        if self.min_genes is not None or self.max_genes is not None:
            n_genes = _genes_per_cell(chunk.X)
            chunk = chunk.with_obs(n_genes=n_genes)
            mask &= within(n_genes, self.min_genes, self.max_genes)
        for column in self.reads_obs:
            low, high = (self.min or {}).get(column), (self.max or {}).get(column)
            mask &= within(floats(chunk.column(column)), low, high)
        return take_cells(chunk, mask)

    @property
    def reads_obs(self) -> list[str]:
        """The columns that have bounds."""
        return list(dict.fromkeys([*(self.min or {}), *(self.max or {})]))

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream with the new columns; how many cells are left is not known yet."""
        if any(v is not None for name, v in vars(self).items() if name not in ("min", "max")):
            check_zero("FilterCells", spec)
        for column in self.reads_obs:
            check_numeric("FilterCells", column, spec)
        if self.min_counts is not None or self.max_counts is not None:
            spec = spec.with_obs(n_counts="float64")
        if self.min_genes is not None or self.max_genes is not None:
            spec = spec.with_obs(n_genes="int64")
        return filtered(self, spec, *self._limits())

    def _limits(self) -> list[Limit]:
        """Return the bounds, each alone, in the order in which they are judged."""
        given = [("n_counts", self.min_counts, self.max_counts), ("n_genes", self.min_genes, self.max_genes)]
        given += [(name, (self.min or {}).get(name), (self.max or {}).get(name)) for name in self.reads_obs]
        each = [
            (name, pair) for name, low, high in given for pair in ((low, None), (None, high)) if pair != (None, None)
        ]
        return [Limit(name, *pair) for name, pair in each]


@dataclass(frozen=True)
class FilterOutliers(Fit):
    """Drop cells far from the median, in median absolute deviations, as `scuttle::isOutlier`.

    Needs one pass over the data. Cells without a value in the column (NaN), or without a batch,
    are dropped too: nothing says that they are good.

    Parameters
    ----------
    column
        A number of each cell: a column of `obs`, of the source or of a step before, e.g. "pct_counts_mt".
    nmads
        How many deviations from the median a cell may be.
    batch_key
        Column or columns of `obs`: every batch has its own median and deviation.
    log
        Whether to judge by the logarithm. A value of 0 is then an outlier on the lower side.
    side
        "both", or only the "lower" or "higher" values.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> cells = pd.DataFrame({"depth": [4.0, 5.0, 6.0, 50.0]}, index=list("abcd"))
    >>> source = ArraySource(np.ones((4, 1)), cells, pd.DataFrame(index=["g"]))
    >>> hr.Plan(source, [hr.FilterOutliers("depth", nmads=3)]).to_anndata().obs_names.tolist()
    ['a', 'b', 'c']
    """

    column: str
    nmads: float = 3.0
    batch_key: str | tuple[str, ...] | None = None
    log: bool = False
    side: Literal["both", "lower", "higher"] = "both"
    keeps_values = True

    def __post_init__(self) -> None:
        if not isinstance(self.column, str):
            raise InputError(f"FilterOutliers({self.column!r}): the name of one column of obs; a step for each column")
        check_fields(self)
        if not self.nmads > 0:
            raise InputError(f"FilterOutliers(nmads={self.nmads!r}): above 0")
        if self.side not in ("both", "lower", "higher"):
            raise InputError(f"FilterOutliers(side={self.side!r}): 'both', 'lower' or 'higher'")
        if self.batch_key is not None and not isinstance(self.batch_key, str):
            object.__setattr__(self, "batch_key", tuple(self.batch_key))

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics: a value and a batch for each cell, and their sorted copy."""
        return 24 * spec.n_obs

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless the column is there and holds numbers."""
        check_numeric("FilterOutliers", self.column, spec)
        Groups.of(spec, self.batch_key, "FilterOutliers")
        return filtered(self, spec, Limit(self.column))  # found in the data

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Find the bounds of every batch."""
        groups = Groups.of(spec, self.batch_key, "FilterOutliers")
        values = yield ValuesByGroup(self.column, groups)
        return WithinBounds(self, groups, {code: self._bounds(part) for code, part in values.items()})

    def _bounds(self, values: Any) -> tuple[float, float]:
        """Return the least and the largest value that is no outlier."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(values) if self.log else values
            median = float(np.median(values))
            away = self.nmads * MAD * float(np.median(np.abs(values - median)))
        low, high = median - away, median + away
        if self.log:
            low, high = float(np.exp(low)), float(np.exp(high))
        return (low if self.side != "higher" else -np.inf, high if self.side != "lower" else np.inf)


@dataclass(frozen=True, eq=False)
class WithinBounds(Transform):
    """Keep the cells whose value is within the bounds of their group, inclusive."""

    outliers: FilterOutliers
    groups: Groups
    bounds: dict[int, tuple[float, float]]

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells that are no outliers."""
        values = floats(chunk.column(self.outliers.column))
        nowhere = (np.inf, -np.inf)
        low, high = (
            np.array([self.bounds.get(int(code), nowhere) for code in self.groups.codes(chunk)]).reshape(-1, 2).T
        )
        return take_cells(chunk, (values >= low) & (values <= high))

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream; how many cells are left is not known."""
        found = self.bounds.values()
        limits = [Limit(self.outliers.column, _finite(low), _finite(high)) for low, high in found][:MOST_LIMITS]
        return filtered(self.outliers, spec, *limits)


def _finite(bound: float) -> float | None:
    """Return a bound; None for one that keeps nothing out."""
    return bound if np.isfinite(bound) else None


def _genes_per_cell(X: Matrix) -> npt.NDArray[np.int64]:
    if isinstance(X, np.ndarray):
        return np.asarray(np.count_nonzero(X > 0, axis=1), dtype=np.int64)
    return np.asarray(np.diff(X.indptr), dtype=np.int64)

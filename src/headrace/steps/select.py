"""Selection of genes, and how cells and genes are cut out of a chunk."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Matrix, StreamSpec, csr
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Fit, Transform
from ..rows import take
from ..stats import kernels
from ..stats.combined import Combined
from ..stats.groups import Groups
from ..stats.moments import GeneCells, MomentSums
from ..support.given import check_fields
from .bounds import check_bounds, check_zero, need_cells, within


def take_cells(chunk: Chunk, mask: npt.NDArray[np.bool_]) -> Chunk:
    """Return the cells where `mask`, shape (n_obs,), is True."""
    if mask.all():
        return chunk
    rows = np.flatnonzero(mask)
    obsm = {name: values[rows] for name, values in chunk.obsm.items()}
    return _map(chunk, lambda X: X[rows], obs=take(chunk.rows, rows), obsm=obsm)


def take_genes(chunk: Chunk, gene_map: npt.NDArray[np.int32], n_vars: int) -> Chunk:
    """Return the genes whose entry in `gene_map`, shape (n_vars before,), is their new number, not -1."""
    kept = np.flatnonzero(gene_map >= 0)
    patterns: dict[int, tuple[Any, Any]] = {}  # layers share their indices with X: map them once

    def taken(X: Matrix) -> Matrix:
        if isinstance(X, np.ndarray):
            return np.ascontiguousarray(X[:, kept])
        if id(X.indices) not in patterns:
            indptr, indices, data = np.empty_like(X.indptr), np.empty_like(X.indices), np.empty_like(X.data)
            n = kernels.keep_rows(X.indptr, X.indices, X.data, gene_map, indptr, indices, data)
            indices, data = indices[:n], data[:n]
            if n < X.nnz // 2:  # do not keep the room of what was left out
                indices, data = indices.copy(), data.copy()
            patterns[id(X.indices)] = indptr, indices
        else:
            indptr, indices = patterns[id(X.indices)]
            data = np.empty(len(indices), dtype=np.float32)
            kernels.keep_data(X.indices, X.data, gene_map, data)
        return csr(data, indices, indptr, n_vars)

    return _map(chunk, taken)


def _map(chunk: Chunk, fn: Any, **changes: Any) -> Chunk:
    """Apply `fn` to X, to every layer and to what X was before the logarithm; each matrix once."""
    done: dict[int, Matrix] = {}

    def once(X: Matrix) -> Matrix:
        if id(X) not in done:
            done[id(X)] = fn(X)
        return done[id(X)]

    layers = {name: once(X) for name, X in chunk.layers.items()}
    unlogged = None if chunk.unlogged is None else once(chunk.unlogged)
    return chunk.replaced(X=once(chunk.X), layers=layers, unlogged=unlogged, **changes)


@dataclass(frozen=True)
class FilterGenes(Fit):
    """Keep genes by the cells they are seen in and by their total, as `scanpy.pp.filter_genes`.

    Counts over the cells that passed the steps before. Adds `var["n_cells"]` and/or
    `var["n_counts"]`, for the bounds given. Needs one pass over the data before the genes are known.

    Parameters
    ----------
    min_cells, max_cells
        Bounds on the number of cells with the gene above zero, inclusive.
    min_counts, max_counts
        Bounds on the gene's sum over cells, inclusive.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.FilterGenes(min_cells=5).min_cells
    5
    """

    min_cells: int | None = None
    max_cells: int | None = None
    min_counts: float | None = None
    max_counts: float | None = None
    chooses_genes = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_bounds("FilterGenes", self)

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if zero has no meaning here; all genes may stay."""
        check_zero("FilterGenes", spec)
        names = [f"n_{what}" for what in ("counts", "cells") if self._bounded(what)]
        return spec.with_var(**dict.fromkeys(names, 0))

    def _bounded(self, what: str) -> bool:
        return getattr(self, f"min_{what}") is not None or getattr(self, f"max_{what}") is not None

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Count each gene's cells and sum; return the selection."""
        columns: dict[str, Any] = {}
        mask = np.ones(spec.n_vars, dtype=bool)
        by_cells, by_counts = self._bounded("cells"), self._bounded("counts")
        n_cells, moments = yield Combined(
            GeneCells(spec.n_vars) if by_cells else None,
            MomentSums(Groups(), spec.n_vars) if by_counts else None,
        )
        if by_counts:
            columns["n_counts"] = moments.total[0]
            mask &= within(columns["n_counts"], self.min_counts, self.max_counts)
        if by_cells:
            columns["n_cells"] = n_cells
            mask &= within(n_cells, self.min_cells, self.max_cells)
        if not mask.any():
            need_cells(any(values.any() for values in columns.values()), spec, "non-empty cell")
            raise InputError(f"{self.describe()}: none of the {spec.n_vars} genes is within the bounds; widen them")
        return KeepGenes(mask, columns)


@dataclass(frozen=True)
class SelectGenes(Fit):
    """Keep the named genes, or the highly variable ones.

    Parameters
    ----------
    genes
        Values of `feature_id`, in any order (the stream's order stays), or "highly_variable" for the genes
        that an earlier `HighlyVariableGenes` marks (or that `var` of the source marks).

    Examples
    --------
    >>> import headrace as hr
    >>> hr.SelectGenes("highly_variable").genes
    'highly_variable'
    """

    genes: str | Sequence[str]
    passes = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.genes, str):
            object.__setattr__(self, "genes", tuple(self.genes))
            if not self.genes:
                raise InputError("SelectGenes([]): the list is empty; give the genes to keep, or leave the step out")
        elif self.genes != "highly_variable":
            raise InputError(f"SelectGenes({self.genes!r}): give a list of feature_ids, or 'highly_variable'")

    @property
    def reads_var(self) -> bool:
        """True if the genes are those that an earlier step marks."""
        return self.genes == "highly_variable"

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if a named gene is not in the stream, or no gene has been marked."""
        if self.genes == "highly_variable":
            if "highly_variable" not in spec.var:
                raise PlanError("SelectGenes('highly_variable'): no HighlyVariableGenes step comes before it")
            return spec
        known = set(spec.var.index)
        missing = [gene for gene in self.genes if gene not in known]
        if missing:
            raise PlanError(
                f"SelectGenes: {len(missing)} of {len(self.genes)} genes are not in the stream, "
                f"e.g. {missing[0]!r}; {nearest(missing[0], spec.var.index)}"
            )
        return spec.with_genes(spec.var.index.isin(list(self.genes)))

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Return the selection; no data is read."""
        if self.genes == "highly_variable":
            return KeepGenes(spec.var["highly_variable"].to_numpy(dtype=bool))
        return KeepGenes(spec.var.index.isin(list(self.genes)))
        yield  # a generator that needs no data


@dataclass(frozen=True, eq=False)
class KeepGenes(Transform):
    """Keep the genes where `mask` is True; note `columns` about all genes in `var` first.

    Parameters
    ----------
    mask
        Shape (n_vars,), bool.
    columns
        New columns of `var`, each of shape (n_vars,), before the selection.
    """

    mask: npt.NDArray[np.bool_]
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gene_map = np.where(self.mask, np.cumsum(self.mask) - 1, -1).astype(np.int32)
        object.__setattr__(self, "_gene_map", gene_map)
        object.__setattr__(self, "_n_vars", int(self.mask.sum()))

    @property
    def kept_genes(self) -> npt.NDArray[np.bool_]:
        """The genes that are kept."""
        return self.mask

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the chosen genes of the cells."""
        if self._n_vars == len(self.mask):  # type: ignore[attr-defined] # set in __post_init__
            return chunk
        return take_genes(chunk, self._gene_map, self._n_vars)  # type: ignore[attr-defined] # set in __post_init__

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream of the chosen genes."""
        return spec.with_var(**self.columns).with_genes(self.mask)

"""A local .h5ad file as a source of cells."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import h5py
import numpy as np
import pandas as pd

from ...chunk import Chunk, Holds, StreamSpec
from ...errors import CountsError, InputError, SourceError, nearest
from ...protocols import Cost, Source
from ...support.prefetch import prefetch
from ..ranges import CellRange
from .file import member
from .locate import asked_as, locate_matrix, matrices
from .matrix import Matrix
from .preads import Disk, stamp
from .table import Table
from .values import Names

Holding = Literal["counts", "normalized", "logged", "standardized"]

ID_COLUMNS = ("feature_id", "gene_ids", "gene_id", "ensembl_id", "ensembl", "soma_joinid")

MOST_LOOKED_AT = 8
"""Other matrices of the file that are searched for counts."""


@dataclass(frozen=True)
class H5adSource(Source[CellRange]):
    """Cells and genes of a local .h5ad file; see `open_h5ad`.

    Holds a path and what was asked for, never an open handle: it pickles small, and every process opens the
    file for itself.

    Parameters
    ----------
    path
        The file, absolute.
    stamp
        Its size and time of change, in ns, when it was opened: it must still have them when it is read.
    layer
        Where the matrix is in the file: "X", "raw/X" or "layers/<name>".
    """

    path: str
    stamp: tuple[int, int]
    layer: str = "X"
    holds: Holds = Holds.UNKNOWN
    var_index: str | None = None
    scratch: str | None = None
    most_nnz = 1_200_000  # of a chunk: larger ones take memory and gain nothing

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was opened or looked up."""
        return {k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__}

    # ------------------------------------------------------------------------------------------- what it is
    @property
    def spooled(self) -> bool:
        """Whether what was read is kept for further passes: if it is compressed, or dense."""
        return self._matrix.spooled

    @cached_property
    def spec(self) -> StreamSpec:
        """What is known of the stream before X is read."""
        base = {} if self._log_base is None else {"base": self._log_base}
        uns = {"log1p": base} if self.holds is Holds.LOGGED else {}
        return StreamSpec(self.var, self._obs.empty(), self._obs.length, self._matrix.nnz, self.holds, uns=uns)

    def refs(self, nnz: int) -> list[CellRange]:
        """Return one span of cells per chunk, each of about `nnz` non-zeros."""
        return self._matrix.refs(nnz)

    def read(self, refs: Sequence[CellRange]) -> Iterator[Chunk]:
        """Read chunks, in order; X is read ahead."""
        for span, X in zip(refs, prefetch(self._matrix.read(refs)), strict=True):
            yield Chunk(X, self._obs.read(span.start, span.stop))

    def within(self, memory: int) -> Self:
        """Return the same source, opened anew: what it takes is given by the file."""
        del memory
        other = copy.copy(self)  # a run's temporary files go with the run
        other.__dict__["var"] = self.var
        return other

    def cost(self) -> Cost:
        """Say what reading all of it takes."""
        about = self._matrix
        return Cost(about.expected, about.bytes, about.memory + self._obs.memory, disk=about.scratch)

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the cells of each value of a column of obs."""
        if column not in self._obs.columns:
            return {}
        return self._obs.value_counts(column)

    def identity(self) -> str:
        """Return the file, its size and time of change, and which matrix of it, as a text."""
        return json.dumps([self.path, *self.stamp, self.layer, self.var_index])

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (Path(self.path),)

    def provenance(self) -> dict[str, Any]:
        """Say which matrix of which file it is, in plain values; not in which folder the file was."""
        return {"query": {"file": os.path.basename(self.path), "matrix": self.layer, "holds": str(self.holds)}}

    # ----------------------------------------------------------------------------------------- looking it up
    @cached_property
    def var(self) -> pd.DataFrame:
        """The genes: var of the file, or raw.var if raw.X is read."""
        where = "raw/var" if self.layer == "raw/X" else "var"
        table = Table(self._file, where)
        var = table.all()
        if self.var_index is not None:
            var = reindexed(var, self.var_index, table.where)
        if not var.index.is_unique:
            twice = var.index[var.index.duplicated()][0]
            ids = next((name for name in ID_COLUMNS if name in var and var[name].is_unique), None)
            remedy = f"var_index={ids!r} takes the ids of that column" if ids else "adata.var_names_make_unique() helps"
            raise InputError(
                f"{table.where} has {twice!r} more than once, so genes cannot be told apart by their names; {remedy}"
            )
        return var

    @property
    def _file(self) -> h5py.File:
        return self._disk.hdf5

    @cached_property
    def _disk(self) -> Disk:
        return Disk(self.path, self.stamp)

    @cached_property
    def _obs(self) -> Table:
        return Table(self._file, "obs")

    @cached_property
    def _log_base(self) -> float | None:
        """The base of the logarithms that X is said to hold."""
        found = member(self._file, "uns/log1p/base")
        if not isinstance(found, h5py.Dataset) or found.shape != () or found.dtype.kind not in "iuf":
            return None
        return float(found[()])

    @cached_property
    def _matrix(self) -> Matrix:
        """The matrix, found and checked as far as that goes without reading it."""
        shape = (self._obs.length, len(self.var))
        counts = self.holds in (Holds.COUNTS, Holds.UNKNOWN)
        index = self.var.index  # and not self: the file is to be closed as soon as the source is gone
        names = Names(f"{self.layer} of {self.path}", self._obs.name, lambda j: str(index[j]), counts)
        return locate_matrix(self._disk, self.layer, shape, names, self.scratch or tempfile.gettempdir())


def reindexed(var: pd.DataFrame, column: str, where: str) -> pd.DataFrame:
    """Return var indexed by a column; the names it had become one."""
    if column not in var:
        raise InputError(f"var_index={column!r}: {where} has no such column; {nearest(column, var.columns)}")
    names = "feature_name" if "feature_name" not in var else "var_names"
    kept = var if names in var else var.assign(**{names: np.asarray(var.index)})
    return kept.set_index(pd.Index(var[column].astype(str).to_numpy(object), name=column)).drop(columns=column)


def refuse_if_no_counts(source: H5adSource) -> None:
    """Raise `CountsError` if the matrix does not begin with counts; name those of the file that do."""
    values = source._matrix.peek()
    values = values[np.isfinite(values)]  # others are refused when they are read, and their cells named
    broken = values[(values < 0) | (values != np.floor(values))]
    if not len(broken):
        return
    with_counts = []
    for other in [name for name in matrices(source._file) if name != source.layer][:MOST_LOOKED_AT]:
        try:
            there = H5adSource(source.path, source.stamp, other)._matrix.peek()
        except (InputError, SourceError):
            continue  # it cannot be asked for either
        if len(there) and ((there >= 0) & (there == np.floor(there))).all():
            with_counts.append(f"{other} has: ask for {asked_as(other)}")
    guess = "standardized" if values.min() < 0 else "logged" if values.max() < 20 else "normalized"
    raise CountsError(
        f"{source.layer} of {source.path} holds no counts: values such as {broken[0]:g} are among its first. "
        + (f"Whole numbers are what {'; '.join(with_counts)}. " if with_counts else "No other matrix of it does. ")
        + f"To go on with {source.layer} as it is, say what it holds, e.g. holds={guess!r}"
    )


def open_h5ad(
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    raw: bool = False,
    holds: Holding | None = None,
    var_index: str | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> H5adSource:
    """Open a local .h5ad file as a source of cells.

    The matrix may be stored as CSR, CSC or dense, in any numbers, contiguous or chunked, compressed by what HDF5 has
    by itself (gzip, lzf, ...). It is streamed in flat memory. CSC is turned into rows through a temporary file of 12
    bytes per non-zero. obs and var are carried over, and nothing else: not obsm, varm, obsp, uns, nor other layers.

    Parameters
    ----------
    path
        The file, as anndata 0.7 or later writes it.
    layer
        A layer to read instead of X, e.g. "counts".
    raw
        Whether to read `raw.X`, whose genes are those of `raw.var`. CELLxGENE's files have their counts there.
    holds
        What the matrix holds: "counts", "normalized", "logged" (1 + x; the base is taken from `uns["log1p"]`) or
        "standardized". None: counts are expected, its first values are looked at now, and all of them as they are read
        by steps that need counts.
    var_index
        Column of var with the ids of genes; by default var's own index.
    scratch
        Folder for the temporary file that CSC needs; the system's by default (TMPDIR).

    Returns
    -------
    A source whose X is float32: values that are not whole are rounded to it.

    Raises
    ------
    InputError
        If there is no such file, layer or column; if it has no cells or genes; if names of genes come twice.
    CountsError
        If no `holds` is given and the first values are no counts: says where in the file there are some.
        While reading: if a whole number above 2**24 is no float32.
    SourceError
        If the file is broken, or leads outside itself (external links or storage, virtual datasets, filters of
        plugins). While reading: if an index is out of range or comes twice, or a value is not finite.

    Notes
    -----
    Names of cells need not be unique. `raw=True` and `layer` exclude each other.

    Examples
    --------
    >>> import anndata, numpy as np, scipy.sparse, tempfile, headrace as hr
    >>> path = tempfile.mkdtemp() + "/small.h5ad"
    >>> anndata.AnnData(scipy.sparse.csc_matrix(np.array([[1.0, 0], [2, 3]], dtype=np.float32))).write_h5ad(path)
    >>> hr.Plan(hr.open_h5ad(path), [hr.NormalizeTotal(10)]).to_anndata().X.toarray()
    array([[10.,  0.],
           [ 4.,  6.]], dtype=float32)
    """
    if raw and layer is not None:
        raise InputError(f"raw=True reads raw.X, layer={layer!r} a layer: give one of them")
    if holds is not None and holds not in get_args(Holding):
        raise InputError(f"holds={holds!r}; {nearest(str(holds), get_args(Holding))}")
    full = os.fspath(path) if "://" in os.fspath(path) else os.path.abspath(path)
    if scratch is not None and not os.path.isdir(scratch):
        raise InputError(f"scratch={os.fspath(scratch)!r} is no folder")
    there = stamp(os.stat(full)) if os.path.isfile(full) else (0, 0)
    place = "raw/X" if raw else "X" if layer is None else f"layers/{layer}"
    kind = Holds.UNKNOWN if holds is None else Holds(holds)
    source = H5adSource(full, there, place, kind, var_index, None if scratch is None else os.path.abspath(scratch))
    known = matrices(source._file)
    if place not in known:
        layers = [name.removeprefix("layers/") for name in known if name.startswith("layers/")]
        close = f"; {nearest(layer, layers)}" if layer and layers else ""
        others = ", ".join(f"{name} ({asked_as(name)})" for name in known) or "no matrix at all"
        raise InputError(f"{full} has no {place}{close}; it has {others}")
    n_obs, n_vars = source._obs.length, len(source.var)
    if not n_obs or not n_vars:
        raise InputError(f"{full} has {n_obs} cells and {n_vars} genes: there is nothing to do")
    source._matrix  # noqa: B018 # what is broken is named now, not later
    if holds is None:
        refuse_if_no_counts(source)
    return source

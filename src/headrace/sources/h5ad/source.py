"""A local .h5ad file as a source of cells."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import e
from pathlib import Path
from typing import Any, Literal, Self

import h5py
import numpy as np
import pandas as pd

from ...chunk import Chunk, Cost, Holds, StreamSpec
from ...errors import InputError, SourceError
from ...support.inputs import opened
from ...support.memory import opening
from ...support.places import temporary
from ...support.prefetch import prefetch
from ..compact import Ints
from ..names import named, reindexed
from ..ranges import CellRange
from ..summary import Exact, Summaries
from .aligned import Aligned
from .file import member
from .locate import locate_matrix
from .matrix import Matrix
from .outlived import cell_names, counts_of
from .preads import Disk
from .sampled import Rows
from .table import Table
from .uns import others, read_made, read_uns
from .values import Names, Rounding

Holding = Literal["counts", "normalized", "logged", "standardized"]

ID_COLUMNS = ("feature_id", "gene_ids", "gene_id", "ensembl_id", "ensembl", "soma_joinid")


@dataclass(frozen=True)
class H5adSource(Rows):
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
    modality
        Of an .h5mu, which group of "mod" is read as a file; None: the file itself is.
    rounding
        What to do about counts that are no float32.
    splits
        Whether the summary rows of a counter are left out.
    """

    path: str
    stamp: tuple[int, int]
    layer: str = "X"
    holds: Holds = Holds.UNKNOWN
    var_index: str | None = None
    scratch: str | None = None
    var_names: str | None = None
    uns: Literal["keep"] | None = None
    modality: str | None = None
    rounding: Rounding = "refuse"
    splits: bool = True
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
        base = {"base": e if self._log_base is None else self._log_base}
        uns = {**self._uns[0], **({"log1p": base} if self.holds is Holds.LOGGED else {})}
        return StreamSpec(
            self.var,
            self._summaries.empty(self._obs.empty()),
            self._obs.length,
            self._matrix.nnz,
            self.holds,
            obsm=self._obsm.empty(),
            varm={name: values[self._summaries.keep] for name, values in self._varm.all().items()},
            uns=uns,
            made=read_made(self._file),
            values=counts_of(self),
            fractional=self._fractional,
        )

    def refs(self, nnz: int) -> list[CellRange]:
        """Return one span of cells per chunk, each of about `nnz` non-zeros."""
        return self._matrix.refs(nnz)

    def read(self, refs: Sequence[CellRange]) -> Iterator[Chunk]:
        """Read chunks, in order; X is read ahead."""
        for span, X in zip(refs, prefetch(self._matrix.read(refs)), strict=True):
            X, obs = self._summaries.split(X, self._obs.read(span.start, span.stop), span.start, self.exact)
            yield Chunk(X, obs, obsm=self._obsm.read(span.start, span.stop))

    def within(self, memory: int) -> Self:
        """Return the same source, opened anew: what it takes is given by the file."""
        del memory
        other = copy.copy(self)  # a run's temporary files go with the run
        other.__dict__.update(var=self.var, _described=self._described, _sizes=self._sizes)
        return other

    def cost(self) -> Cost:
        """Say what reading all of it takes."""
        about = self._matrix
        _, memory, why = self._sizes
        return Cost(about.expected, about.bytes, about.memory + memory, self._held, about.scratch, why)

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the cells of each value of a column of obs."""
        return self._obs.value_counts(column)

    @property
    def obs_names(self) -> list[str]:
        """Names of the columns of obs."""
        return list(self._obs.columns)

    def obs_blocks(self, columns: Sequence[str]) -> Iterator[tuple[Ints, pd.DataFrame]]:
        """Yield the numbers of all rows and columns of obs, some at a time."""
        for start, cells in self._obs.batches(columns):
            yield np.arange(start, start + len(cells)), cells

    def identity(self) -> str:
        """Return the file, its size and time of change, and which matrix of it, as a text."""
        asked = [self.layer, self.var_index, self.var_names, *([self.modality] if self.modality else [])]
        return json.dumps([self.path, *self.stamp, *asked, *self._obsm.arrays])

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (Path(self.path),)

    def provenance(self) -> dict[str, Any]:
        """Say which matrix of which file it is, in plain values; not in which folder the file was."""
        asked = {"file": os.path.basename(self.path), "matrix": self.layer, "holds": str(self.holds)}
        asked |= {} if self.modality is None else {"modality": self.modality}
        left = others(self._file, self.layer, self.uns == "keep")
        for name, refused in self.refused.items():
            left.setdefault(name, []).extend(refused)
        return {"query": {**asked, **({"left_out": left} if left else {})}}

    # ----------------------------------------------------------------------------------------- looking it up
    @cached_property
    def var(self) -> pd.DataFrame:
        """The genes: the features without a counter's summary, as they are to be called."""
        var = self._summaries.genes(self._features)
        return var if self.var_names is None else named(var, self.var_names, f"var of {self.path}")

    @property
    def _features(self) -> pd.DataFrame:
        """The columns of the matrix."""
        return self._described[0]

    @property
    def _summaries(self) -> Summaries:
        """Features that are no genes, but the summary of a counter, such as `__no_feature`."""
        return self._described[1]

    @cached_property
    def exact(self) -> Exact:
        """Counts of summary rows that are no float32 numbers, where X has been read."""
        return Exact(Exact.among(self._features.index).columns | set(self._summaries.columns))

    @cached_property
    def _described(self) -> tuple[pd.DataFrame, Summaries]:
        """The features, from var or raw.var, and which are no genes."""
        table = Table(self._file, "raw/var" if self.layer == "raw/X" else "var")
        own = table.all()
        var = own if self.var_index is None else reindexed(own, self.var_index, table.where)
        none = Summaries(np.ones(len(var), dtype=bool), {})
        found = Summaries.among(own.index, var.index, taken=self._obs.columns) if self.splits else none
        ids = var.index[found.keep]
        if not ids.is_unique:
            twice = ids[ids.duplicated()][0]
            column = next((name for name in ID_COLUMNS if name in var and var[name].is_unique), None)
            remedy = "adata.var_names_make_unique() helps"
            if column is not None:
                remedy = f"var_index={column!r} takes the ids of that column"
            if self.var_names is not None and self.var_index is None:
                remedy = "give the column of their ids with var_index="
            raise InputError(
                f"{table.where} has {twice!r} more than once, so genes cannot be told apart by their names; {remedy}"
            )
        return var, found

    @property
    def refused(self) -> dict[str, dict[str, str]]:
        """What of obsm, varm and a uns that was asked for is not carried over, and why."""
        found = {"obsm": self._obsm.left, "varm": self._varm.left, "uns": self._uns[1]}
        return {name: left for name, left in found.items() if left}

    @property
    def _file(self) -> h5py.Group:
        """The file, or the modality that is read of it."""
        if self.modality is None:
            return self._disk.hdf5
        found = member(self._disk.hdf5, f"mod/{self.modality}")
        if not isinstance(found, h5py.Group):
            raise SourceError(f"{self.path} has no modality {self.modality!r}")
        return found

    @cached_property
    def _disk(self) -> Disk:
        opened(self, self._closed)
        return Disk(self.path, self.stamp)

    def _closed(self) -> None:
        """Close the file, and forget what was looked up in it."""
        disk = self.__dict__.get("_disk")
        for name in ("_disk", "_obs", "_obsm", "_varm", "_matrix"):
            self.__dict__.pop(name, None)
        if disk is not None:
            disk.close()

    @cached_property
    def _obs(self) -> Table:
        with opening(None):  # what there is is asked for once, and not for each column
            return Table(self._file, "obs")

    @cached_property
    def _sizes(self) -> tuple[int, int, str]:
        """How many cells there are, what obs and obsm take in memory, and why: to open many columns takes a while."""
        obs, obsm = self._obs, self._obsm
        return obs.length, obs.memory + obsm.memory, obs.why or obsm.why

    @cached_property
    def _obsm(self) -> Aligned:
        return Aligned(self._file, "obsm", self._obs.length)

    @cached_property
    def _varm(self) -> Aligned:
        return Aligned(self._file, "raw/varm" if self.layer == "raw/X" else "varm", len(self._features))

    @cached_property
    def _uns(self) -> tuple[dict[str, Any], dict[str, str]]:
        return read_uns(self._file) if self.uns == "keep" else ({}, {})

    @cached_property
    def _log_base(self) -> float | None:
        """The base of the logarithms that X is said to hold."""
        found = member(self._file, "uns/log1p/base")
        if not isinstance(found, h5py.Dataset) or found.shape != () or found.dtype.kind not in "iuf":
            return None
        return float(found[()])

    @cached_property
    def _held(self) -> int:
        """Bytes of what is held of var, varm and uns, beyond what every plan reckons with."""
        usual = 400 * len(self.var)
        return max(0, int(self.var.memory_usage(deep=True).sum()) - usual) + sum(
            array.nbytes for array in self._varm.all().values()
        )

    @cached_property
    def _fractional(self) -> bool | None:
        """Whether there are values that are not whole among the first counts; without `holds` these are refused."""
        if self.holds is not Holds.COUNTS:
            return False
        values = self._matrix.peek()
        return bool((np.isfinite(values) & (values != np.floor(values))).any()) or None

    @cached_property
    def _matrix(self) -> Matrix:
        """The matrix, found and checked as far as that goes without reading it."""
        shape = (self._sizes[0], len(self._features))
        counts = self.holds in (Holds.COUNTS, Holds.UNKNOWN)
        index = self._features.index  # and not self: the file is to be closed as soon as the source is gone
        rounding = self.rounding if counts else "ignore"
        name, gene = f"{self.layer} of {self.path}", lambda j: str(index[j])
        names = Names(name, cell_names(self), gene, rounding, self.exact)
        return locate_matrix(self._disk, self._file, self.layer, shape, names, self.scratch or str(temporary()))

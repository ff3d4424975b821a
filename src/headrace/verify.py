"""Check that a file is whole and right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import InputError
from .sinks.digests import WHERE, digests

ROWS = 4096


@dataclass(frozen=True)
class Verdict:
    """What was found in a file.

    Parameters
    ----------
    problems
        What is wrong, a line each; empty if nothing is.
    n_obs, n_vars, nnz
        Sizes of X.
    provenance
        What the file says about how it was made.
    """

    problems: tuple[str, ...]
    n_obs: int
    n_vars: int
    nnz: int
    provenance: dict[str, Any]


def verify_h5ad(path: str | os.PathLike[str]) -> Verdict:
    """Read all of an .h5ad file and check it, in flat memory.

    Structure and encodings; index dtypes; `indptr`; indices sorted, in range and without duplicates; no
    stored zeros or NaN; lengths of obs, var and layers; every checksum that HDF5 keeps; and the digests
    of text and attributes that headrace records when it writes.

    Raises
    ------
    InputError
        If there is no such file, or it is no HDF5 file at all.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> census = hr.open_census(headrace.testing.build_demo_census(folder + "/census"))
    >>> _ = hr.Plan(census.query("mus_musculus")).write_h5ad(folder + "/mouse.h5ad")
    >>> hr.verify_h5ad(folder + "/mouse.h5ad").problems
    ()
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is no HDF5 file, or its beginning is broken: {error}") from None
    with file:
        return _Check(file).run()


class _Check:
    """One reading of a file; problems are collected, not raised."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.problems: list[str] = []
        self.shape = (0, 0)
        self.nnz = 0

    def run(self) -> Verdict:
        """Check everything."""
        provenance: dict[str, Any] = {}
        for check in (self._structure, self._matrices, self._everything_reads):
            try:
                check()
            except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
                self.problems.append(f"{check.__name__.strip('_').replace('_', ' ')}: {error}")
        try:
            provenance = _plain(self.file["uns/headrace"]) if "uns/headrace" in self.file else {}
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            self.problems.append(f"uns/headrace cannot be read: {error}")
        if not provenance:
            self.problems.append("uns/headrace is missing: the file does not say how it was made")
        return Verdict(tuple(dict.fromkeys(self.problems)), *self.shape, self.nnz, provenance)

    def _structure(self) -> None:
        if self.file.attrs.get("encoding-type") != "anndata":
            self.problems.append("it is not an .h5ad file: its encoding-type is not 'anndata'")
        for name in ("X", "obs", "var", "uns", "layers"):
            if name not in self.file:
                self.problems.append(f"{name} is missing")
        lengths = []
        for name in ("obs", "var"):
            table = self.file[name]
            index = table[table.attrs["_index"]]
            lengths.append(len(index))
            for column in table.attrs["column-order"]:
                entry = table[column]
                size = len(entry["codes"]) if isinstance(entry, h5py.Group) else len(entry)
                if size != len(index):
                    self.problems.append(f"{name}[{column!r}] has {size} entries for {len(index)} rows")
        self.shape = (lengths[0], lengths[1])

    def _matrices(self) -> None:
        for name in ("X", *(f"layers/{layer}" for layer in self.file["layers"])):
            matrix = self.file[name]
            if isinstance(matrix, h5py.Group):
                nnz = self._sparse(name, matrix)
            else:
                nnz = int(matrix.size)
                if matrix.shape != self.shape:
                    self.problems.append(f"{name} is {matrix.shape}, but obs and var have {self.shape} rows")
            if name == "X":
                self.nnz = nnz

    def _sparse(self, name: str, group: h5py.Group) -> int:
        """Check a CSR matrix, some rows at a time; return its non-zeros."""
        data, indices, indptr = group["data"], group["indices"], group["indptr"][:]
        if tuple(group.attrs["shape"]) != self.shape:
            self.problems.append(f"{name} is {tuple(group.attrs['shape'])}, but obs and var have {self.shape} rows")
        if indices.dtype != group["indptr"].dtype:
            self.problems.append(f"{name}: indices are {indices.dtype}, indptr {group['indptr'].dtype}")
        if len(indptr) != self.shape[0] + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
            self.problems.append(f"{name}: indptr does not begin at 0, or decreases, or has not one entry per cell")
            return 0
        if not len(data) == len(indices) == indptr[-1]:
            self.problems.append(f"{name}: {len(data)} values and {len(indices)} indices for {indptr[-1]} non-zeros")
            return 0
        for start, stop in _rows(indptr):
            a, b = int(indptr[start]), int(indptr[stop])
            values, columns = data[a:b], indices[a:b].astype(np.int64)
            if len(columns) and (columns.min() < 0 or columns.max() >= self.shape[1]):
                self.problems.append(f"{name}: a column outside of 0 to {self.shape[1] - 1} in cells {start} to {stop}")
            row = np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1]))
            if (np.diff(row * (self.shape[1] + 1) + columns) <= 0).any():
                self.problems.append(f"{name}: columns not sorted, or twice, in cells {start} to {stop}")
            if (values == 0).any() or np.isnan(values).any():
                self.problems.append(f"{name}: stored zeros or NaN in cells {start} to {stop}")
        return int(indptr[-1])

    def _everything_reads(self) -> None:
        """Read every dataset once, so that HDF5 checks its checksums; compare the digests of the rest."""
        names: list[str] = []
        self.file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
        for name in names:
            entry = self.file[name]
            try:
                step = max(1, (1 << 20) // max(1, int(np.prod(entry.shape[1:], dtype=np.int64))))
                for start in range(0, len(entry) if entry.shape else 0, step):
                    entry[start : start + step]
            except (OSError, RuntimeError, ValueError) as error:
                self.problems.append(f"{name} cannot be read: {str(error).splitlines()[0]}")
        if WHERE not in self.file:
            self.problems.append("no digests are recorded in it: text and attributes cannot be checked")
            return
        for what, value in digests(self.file).items():
            if int(self.file[WHERE][what][()]) != value:
                self.problems.append(f"the {what} of the file are not what was written")


def _rows(indptr: Any) -> Iterator[tuple[int, int]]:
    for start in range(0, len(indptr) - 1, ROWS):
        yield start, min(start + ROWS, len(indptr) - 1)


def _plain(group: h5py.Group) -> dict[str, Any]:
    """Return a group of scalars as a dictionary."""
    out: dict[str, Any] = {}
    for name, entry in group.items():
        if isinstance(entry, h5py.Group):
            out[name] = _plain(entry)
        else:
            value = entry[()]
            out[name] = value.decode() if isinstance(value, bytes) else value
    return out

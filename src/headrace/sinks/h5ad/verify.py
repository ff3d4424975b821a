"""Check that a file is whole and right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ...chunk import csr
from ...errors import InputError, SourceError
from ...stats import kernels
from ...support.given import check_call
from ...support.heaps import check_heaps
from ...support.places import look
from .digests import ROWS, TABLES, WHERE, RowDigest, digests, is_encoded
from .digests import recorded as recorded_digest
from .verdict import Verdict

BLOCK = 1 << 20
"""Values that are looked at at once."""

CACHE = 8 << 20
"""Bytes of chunks that HDF5 keeps for each dataset: blocks do not end where chunks do."""

WRONG = {
    kernels.OUTSIDE: "a {0} outside of the {1}",
    kernels.UNSORTED: "{0}s not sorted, or twice,",
    kernels.ZEROS: "stored zeros",
    kernels.NOT_FINITE: "NaN or infinity",
}

UNRECORDED = (
    "uns/headrace is missing: headrace did not write the file, or another program has saved it since, so that it does "
    "not say how it was made"
)
"""The first problem of a file without headrace's record: what was written is not known, so only the rest is checked."""


def verify_h5ad(path: str | os.PathLike[str]) -> Verdict:
    """Read all of an .h5ad file and check it, in flat memory.

    Structure and encodings; dtypes; `indptr`; indices sorted, in range and without duplicates; no stored zeros,
    NaN or infinity; lengths of obs, var and layers; codes of categories; every checksum that HDF5 keeps; and what
    headrace records when it writes: the digest of the rows of X and of each layer (their sums, and which value is in
    which column), of text, of attributes, and of whatever else has no checksum.

    Of a file that headrace did not write, what makes it one that can be read is checked: X and layers may be CSR, CSC
    or dense, of any numbers, with stored zeros. That its record is missing is the first of its problems.

    Raises
    ------
    InputError
        If there is no such file, or it is no HDF5 file at all, or has neither obs nor var.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> census = hr.open_census(headrace.testing.build_demo_census(folder + "/census"))
    >>> _ = hr.Plan(census.query("mus_musculus")).write_h5ad(folder + "/mouse.h5ad")
    >>> hr.verify_h5ad(folder + "/mouse.h5ad").problems
    ()
    """
    check_call(verify_h5ad, locals())
    path = Path(path)
    there = look(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; .h5ad files are what is checked")
    if not path.is_file():
        raise InputError(f"{path} is a pipe or device" if there else f"there is no file {path}")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty, 0 bytes: whatever made it did not finish; make it again")
    try:
        file = h5py.File(path, "r", rdcc_nbytes=CACHE)
    except PermissionError:
        raise InputError(f"{path} cannot be read: permission denied") from None
    except (OSError, RuntimeError) as error:
        if "truncated" in str(error):
            raise InputError(f"{path} is cut off; copy or make it again: {error}") from None
        raise InputError(f"{path} is no HDF5 file, so it is no .h5ad, or its beginning is broken: {error}") from None
    with file:
        try:
            check_heaps(file)
            check = _Check(file)
            unknown = not check.recorded and "obs" not in file and "var" not in file
        except SourceError as error:
            raise InputError(str(error)) from None
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path} is HDF5, but its list of members is broken: {error}; copy it again") from None
        if unknown:
            raise InputError(f"{path} is an HDF5 file, but no .h5ad: it has neither obs nor var")
        return check.run()


class _Check:
    """One reading of a file; problems are collected, not raised."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.problems: list[str] = []
        self.shape = (0, 0)
        self.nnz = 0
        self.read: set[str] = set()
        """Datasets that were read to their ends."""
        self.recorded = "uns/headrace" in file
        """Whether headrace's record is there; else the file need not be as headrace writes one."""

    def run(self) -> Verdict:
        """Check everything."""
        provenance: dict[str, Any] = {}
        if not self.recorded:
            self.problems.append(UNRECORDED)
        for check in (self._structure, self._matrices, self._everything_reads):
            try:
                check()
            except Exception as error:  # whatever a broken file makes h5py raise, it is a finding
                self.problems.append(f"{check.__name__.strip('_').replace('_', ' ')}: {error}")
        try:
            provenance = _plain(self.file["uns/headrace"]) if self.recorded else {}
        except Exception as error:
            self.problems.append(f"uns/headrace cannot be read: {error}")
        if self.recorded and not provenance:
            self.problems.append("uns/headrace is empty: the file does not say how it was made")
        return Verdict(tuple(dict.fromkeys(self.problems)), *self.shape, self.nnz, provenance)

    def _structure(self) -> None:
        if self.recorded and self.file.attrs.get("encoding-type") != "anndata":
            self.problems.append("it is not an .h5ad file: its encoding-type is not 'anndata'")
        for name in ("X", "obs", "var", "uns", "layers") if self.recorded else ("obs", "var"):
            if name not in self.file:
                self.problems.append(f"{name} is missing")
        lengths = []
        for name in ("obs", "var"):
            table = self.file[name]
            index = table[table.attrs["_index"]]
            lengths.append(len(index))
            for column in table.attrs["column-order"]:
                entry = table[column]
                parts = [entry]
                if isinstance(entry, h5py.Group):  # of categories, or of values of which some are missing
                    parts = [entry["codes"]] if "codes" in entry else [entry["values"], entry["mask"]]
                for part in parts:
                    if len(part) != len(index):
                        self.problems.append(f"{name}[{column!r}] has {len(part)} entries for {len(index)} rows")
                if isinstance(entry, h5py.Group) and "codes" in entry and not self._codes(entry):
                    self.problems.append(f"{name}[{column!r}] has codes of no category")
        self.shape = (lengths[0], lengths[1])

    def _codes(self, group: h5py.Group) -> bool:
        """Return whether each code of a categorical column is of a category, or -1 for none."""
        codes, n = group["codes"], len(group["categories"])
        for start in range(0, len(codes), BLOCK):
            block = codes[start : start + BLOCK]
            if block.min() < -1 or block.max() >= n:
                return False
        self.read.add(codes.name.strip("/"))
        return True

    def _matrices(self) -> None:
        names = ["X", *(f"layers/{layer}" for layer in self.file.get("layers", ()))]
        for name in names if self.recorded else [each for each in names if each in self.file]:
            matrix = self.file[name]
            if not self.recorded and isinstance(matrix, h5py.Dataset) and matrix.shape is None:
                continue  # how anndata writes None
            rows = RowDigest()
            nnz = (
                self._sparse(name, matrix, rows) if isinstance(matrix, h5py.Group) else self._dense(name, matrix, rows)
            )
            if name == "X":
                self.nnz = nnz
            recorded = f"{WHERE}/{ROWS}/{name}"
            if not self.recorded:
                continue
            if recorded not in self.file:
                self.problems.append(f"{name}: no digest of its rows is recorded")
            elif recorded_digest(self.file[recorded]) != rows.value:
                self.problems.append(f"{name}: the sums of its rows are not those of what was written")

    def _dense(self, name: str, matrix: h5py.Dataset, rows: RowDigest) -> int:
        """Read a dense matrix, some rows at a time; return its size."""
        if matrix.shape != self.shape:
            self.problems.append(f"{name} is {matrix.shape}, but obs and var have {self.shape} rows")
        self._float32(name, matrix)
        step = max(1, BLOCK // max(1, matrix.shape[1]))
        for start in range(0, len(matrix), step):
            rows.update(matrix[start : start + step].astype(np.float32, copy=False))
        self.read.add(name)
        return int(matrix.size)

    def _float32(self, name: str, values: h5py.Dataset) -> None:
        if self.recorded and values.dtype not in (np.float32, np.int32):  # counts may be the latter
            self.problems.append(f"{name}: values are {values.dtype}, not float32 or int32")

    def _sparse(self, name: str, group: h5py.Group, rows: RowDigest) -> int:
        """Check a CSR matrix, some rows at a time (or a CSC one, by columns); return its non-zeros."""
        by_gene = group.attrs.get("encoding-type") == "csc_matrix" and not self.recorded
        (lines, line), (others, other) = (self.shape[0], "cell"), (self.shape[1], "gene")
        if by_gene:
            (lines, line), (others, other) = (others, other), (lines, line)
        data, indices, indptr = group["data"], group["indices"], group["indptr"][:]
        if tuple(group.attrs["shape"]) != self.shape:
            self.problems.append(f"{name} is {tuple(group.attrs['shape'])}, but obs and var have {self.shape} rows")
        self._float32(name, data)
        if self.recorded and indices.dtype != group["indptr"].dtype:
            self.problems.append(f"{name}: indices are {indices.dtype}, indptr {group['indptr'].dtype}")
        if len(indptr) != lines + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
            self.problems.append(f"{name}: indptr does not begin at 0, or decreases, or has not one entry per {line}")
            return 0
        if not len(data) == len(indices) == indptr[-1]:
            self.problems.append(f"{name}: {len(data)} values and {len(indices)} indices for {indptr[-1]} non-zeros")
            return 0
        for start, stop in _blocks(indptr):
            X = _lines(data, indices, indptr, start, stop, others)
            found = kernels.inspect_csr(X.indptr, X.indices, X.data, others)
            for flag, what in WRONG.items():
                if found & flag and (self.recorded or flag != kernels.ZEROS):
                    what = what.format("row" if by_gene else "column", f"{other}s")
                    self.problems.append(f"{name}: {what} in {line}s {start} to {stop}")
            if not by_gene:
                rows.update(X)
        self.read |= {f"{name}/data", f"{name}/indices", f"{name}/indptr"}
        return int(indptr[-1])

    def _everything_reads(self) -> None:
        """Read every dataset once, so that HDF5 checks its checksums; compare the digests of the rest."""
        names: list[str] = []
        self.file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
        for name in names:
            if name in self.read:
                continue
            entry = self.file[name]
            if entry.shape is None:  # how anndata writes None
                continue
            try:
                step = max(1, (1 << 20) // max(1, int(np.prod(entry.shape[1:], dtype=np.int64))))
                for start in range(0, len(entry) if entry.shape else 0, step):
                    entry[start : start + step]
            except (OSError, RuntimeError, ValueError) as error:
                self.problems.append(f"{name} cannot be read: {str(error).splitlines()[0]}")
        if not self.recorded:
            return
        if WHERE not in self.file:
            self.problems.append("no digests are recorded in it: rows, text and attributes cannot be checked")
            return
        if not is_encoded(self.file):
            self.problems.append("the digests have other attributes than headrace gives them")
        for what, value in digests(self.file, tables=f"{WHERE}/{TABLES}" in self.file).items():
            if what not in self.file[WHERE] or recorded_digest(self.file[WHERE][what]) != value:
                self.problems.append(f"the {what} of the file are not what was written")


def _blocks(indptr: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield first and last-plus-one of consecutive lines with at most about `BLOCK` values."""
    start, n = 0, len(indptr) - 1
    while start < n:
        stop = int(np.searchsorted(indptr, int(indptr[start]) + BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), start + BLOCK, n)
        yield start, stop
        start = stop


def _lines(
    data: h5py.Dataset, indices: h5py.Dataset, indptr: npt.NDArray[Any], start: int, stop: int, others: int
) -> Any:
    """Read some lines, without looking at their indices."""
    a, b = int(indptr[start]), int(indptr[stop])
    values = data[a:b].astype(np.float32, copy=False)
    return csr(values, indices[a:b], indptr[start : stop + 1] - a, others)


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

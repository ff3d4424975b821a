"""Checksums of rows of matrices, and of what HDF5 itself does not protect.

HDF5's own checksums say that a chunk is as it was stored. The digest of the rows says more: that every cell has
the values, in the columns, that it had when it was written; it is made from the cells as they come, not from the
file, and does not depend on how they are cut into chunks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ...chunk import Matrix
from ...stats import kernels

WHERE = "uns/headrace/digests"
ROWS = "rows"
TABLES = "tables"
BLOCK = 1 << 16

DICT = {"encoding-type": "dict", "encoding-version": "0.1.0"}
TEXT = {"encoding-type": "string", "encoding-version": "0.2.0"}
SCALAR = {"encoding-type": "numeric-scalar", "encoding-version": "0.2.0"}


class RowDigest:
    """The digest of a matrix: of the sum of each row, and of what stands in which column.

    Examples
    --------
    >>> X = np.array([[1, 0, 2], [0, 3, 0]], dtype=np.float32)
    >>> whole, parts = RowDigest(), RowDigest()
    >>> whole.update(X); parts.update(X[:1]); parts.update(X[1:])
    >>> whole.value == parts.value
    True
    """

    def __init__(self) -> None:
        self.value = zlib.crc32(b"headrace rows")
        self.parts: list[int] = []
        """Of the rows that were added at once, alone."""

    def update(self, X: Matrix) -> None:
        """Add the next rows."""
        self.add(row_checksums(X))

    def add(self, marks: npt.NDArray[np.uint64]) -> None:
        """Add the checksums of the next rows: they can be made in any thread, but are added in order."""
        self.value = zlib.crc32(marks.data, self.value)
        self.parts.append(zlib.crc32(marks.data))


def row_checksums(X: Matrix) -> npt.NDArray[np.uint64]:
    """Return two numbers for each row, shape (n_obs, 2): the bits of its float64 sum, and a hash of what is where.

    About 0.5 ns for each value.
    """
    out = np.empty((X.shape[0], 2), dtype=np.uint64)
    if isinstance(X, np.ndarray):
        kernels.checksum_dense_rows(X, X.view(np.uint32), out)
    else:
        kernels.checksum_rows(X.indptr, X.indices, X.data, X.data.view(np.uint32), out)
    return out


def text_checksum(values: Iterable[str], before: int = 0) -> int:
    """Return a checksum of texts, however they are cut into blocks: `before` is that of the texts before them."""
    texts = [str(value) for value in values]
    return zlib.crc32("\0".join([*texts, ""]).encode(), before)


def record(file: h5py.File, rows: Mapping[str, RowDigest] | None = None, text: Mapping[str, int] | None = None) -> None:
    """Write the digests of a file into it; the last thing that is written.

    Parameters
    ----------
    file
        The file.
    rows
        Of X and of each layer, by where they are: "X", "layers/counts".
    text
        Marks of texts made when they were written, by where they are: these need not be read again.
    """
    group = file.require_group(WHERE)
    group.parent.attrs.update(DICT)
    group.attrs.update(DICT)
    found = digests(file, text or {}) | {f"{ROWS}/{name}": digest.value for name, digest in (rows or {}).items()}
    for name, value in found.items():
        group.create_dataset(name, data=f"{value:08x}", dtype=h5py.string_dtype())
    group.visititems(lambda _, each: each.attrs.update(DICT if isinstance(each, h5py.Group) else TEXT))


def recorded(entry: h5py.Dataset) -> int:
    """Return a digest from a file: hexadecimal text, or a number as before headrace 0.2."""
    value = entry[()]
    return int(value, 16) if isinstance(value, (bytes, str)) else int(value)


def is_encoded(file: h5py.File) -> bool:
    """Return whether the digests carry the attributes that `record` gives them, by which others read them."""
    group = file[WHERE]
    right = [dict(group.attrs) == DICT]
    group.visititems(
        lambda _, each: right.append(dict(each.attrs) in ((DICT,) if isinstance(each, h5py.Group) else (TEXT, SCALAR)))
    )
    return all(right)


def digests(file: h5py.File, marks: Mapping[str, int] | None = None, tables: bool = True) -> dict[str, int]:
    """Return the digests of all attributes, text, single values, and arrays without a checksum, as they are read now.

    Matrices are left out: their rows have a digest of their own.

    Parameters
    ----------
    marks
        Of texts, if known: they spare reading these.
    tables
        Whether structured arrays have a digest of their own, `TABLES`; files of earlier versions have them among the
        texts, every number as one.
    """
    known = marks or {}
    records: int | None = None
    arrays = attributes = text = scalars = zlib.crc32(b"headrace")
    names: list[str] = []
    file.visit(names.append)
    matrices = matrix_parts(file)
    for name in ["/", *sorted(names)]:
        if name.startswith(WHERE):
            continue
        entry = file[name]
        for key in sorted(entry.attrs):
            attributes = zlib.crc32(f"{name} {key} {_plain(entry.attrs[key])}".encode(), attributes)
        if not isinstance(entry, h5py.Dataset) or entry.shape is None:
            continue
        attributes = zlib.crc32(f"{name} {entry.dtype} {entry.shape}".encode(), attributes)
        if entry.shape == ():
            scalars = zlib.crc32(f"{name} {_plain(entry[()])}".encode(), scalars)
        elif entry.dtype.kind == "O":
            mark = known.get(name)
            if mark is None:
                mark = 0
                for start in range(0, len(entry), BLOCK):
                    mark = text_checksum(entry.asstr()[start : start + BLOCK], mark)
            text = zlib.crc32(f"{name} {mark}".encode(), text)
        elif entry.dtype.kind == "V" and tables:  # their texts are elsewhere in the file
            records = records or 0  # also of a table without rows
            for start in range(0, len(entry), BLOCK):
                records = _record_checksum(entry[start : start + BLOCK], records)
        elif entry.dtype.kind == "V":
            text = zlib.crc32(f"{name} {entry[()].tolist()}".encode(), text)
        elif not entry.fletcher32 and name not in matrices:
            for start in range(0, len(entry), BLOCK):
                arrays = zlib.crc32(entry[start : start + BLOCK].tobytes(), arrays)
    found = {"arrays": arrays, "attributes": attributes, "scalars": scalars, "text": text}
    return found if records is None else {**found, TABLES: records}


def _record_checksum(values: npt.NDArray[Any], before: int) -> int:
    """Return a checksum of structured values, column by column, after that of those before them."""
    columns = [values[name] for name in values.dtype.names] if values.dtype.names else [values]
    for column in columns:
        if column.dtype.hasobject:
            before = text_checksum(column.ravel().tolist(), before)
        else:
            before = zlib.crc32(np.ascontiguousarray(column).tobytes(), before)
    return before


def matrix_parts(file: h5py.File) -> set[str]:
    """Return the names of the datasets that X and the layers are made of."""
    names = ["X", *(f"layers/{layer}" for layer in file.get("layers", ()))]
    return {
        part
        for name in names
        if name in file
        for part in ([f"{name}/{each}" for each in file[name]] if isinstance(file[name], h5py.Group) else [name])
    }


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(value.tolist()) if isinstance(value, (np.ndarray, np.generic)) else str(value)

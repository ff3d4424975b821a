"""obsm and varm of an .h5ad file: several numbers for each cell or gene, read some rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from .attributes import attribute, text
from .blocks import Blocks
from .file import member, members, reading
from .rows import Rows
from .sizes import check_held
from .table import Table

BLOCK_BYTES = 8 << 20
"""Bytes of the rows that are read at once."""


@dataclass(frozen=True)
class Array:
    """One array.

    Parameters
    ----------
    width
        Numbers per row.
    dtype
        Of all of them, in the byte order of the machine.
    read
        Returns the rows between two positions, shape (stop - start, width).
    """

    width: int
    dtype: np.dtype[Any]
    read: Callable[[int, int], npt.NDArray[Any]]


class Aligned:
    """The arrays of `obsm` or `varm` that are carried over: dense ones of numbers, and tables of numbers.

    Parameters
    ----------
    root
        The file.
    path
        Where they are in it; there may be none.
    length
        How many rows they must have.
    """

    def __init__(self, root: h5py.File, path: str, length: int) -> None:
        self.root, self.path, self.length = root, path, length
        self.arrays: dict[str, Array] = {}
        self.left: dict[str, str] = {}
        """What is not carried over, and why."""
        group = member(root, path)
        for name in members(group):
            found = self._array(name, f"{path}[{name!r}] of {root.file.filename}")
            if isinstance(found, str):
                self.left[name] = found
            else:
                self.arrays[name] = found
        row = sum(array.width * array.dtype.itemsize for array in self.arrays.values())
        self.blocks: Blocks[dict[str, npt.NDArray[Any]]] = Blocks(
            length, max(1, min(length, BLOCK_BYTES // max(1, row)))
        )
        self.memory = 3 * self.blocks.size * row if self.arrays else 0
        self.why = f"{path} of {root.file.filename} has {row:,} bytes a row" if self.memory > 6 * BLOCK_BYTES else ""

    def empty(self) -> dict[str, npt.NDArray[Any]]:
        """Return no rows: names, widths and types."""
        return {name: np.empty((0, array.width), array.dtype) for name, array in self.arrays.items()}

    def read(self, start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
        """Return the rows between two positions."""
        if not self.arrays:
            return {}
        blocks = self.blocks.parts(start, stop, self._load)
        parts = [{name: values[a:b] for name, values in arrays.items()} for arrays, a, b in blocks]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.arrays}

    def all(self) -> dict[str, npt.NDArray[Any]]:
        """Return all rows."""
        row = sum(array.width * array.dtype.itemsize for array in self.arrays.values())
        check_held(2 * self.length * row, f"{self.path} of {self.root.file.filename} has {self.length:,} rows")
        return self.read(0, self.length)

    def _load(self, start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
        with reading(f"{self.path} of {self.root.file.filename}, rows {start} to {stop}"):
            return {name: array.read(start, stop) for name, array in self.arrays.items()}

    def _array(self, name: str, where: str) -> Array | str:
        """Return an array, or why it is not carried over."""
        found = member(member(self.root, self.path), name)
        if isinstance(found, h5py.Group):
            kind = text(attribute(found, "encoding-type", "a group"))
            if kind != "dataframe":
                return f"it is encoded as {kind!r}"
            try:
                table = Table(self.root, f"{self.path}/{name}")
            except SourceError as error:
                return str(error)
            return self._table(table, where)
        if not isinstance(found, h5py.Dataset):
            return "it is neither an array nor a table"
        if found.ndim != 2:
            return f"it has {found.ndim} dimensions"
        if found.dtype.kind not in "biuf" or found.dtype.itemsize > 8:
            return f"it holds {found.dtype}"
        rows = Rows(found)
        self._agree(where, found.shape[0])
        dtype = np.dtype(found.dtype.newbyteorder("=").str)  # without the names that HDF5 gives to booleans
        return Array(found.shape[1], dtype, lambda start, stop: rows.read(start, stop).astype(dtype, copy=False))

    def _table(self, table: Table, where: str) -> Array | str:
        """Return a table of numbers as an array: the names of its columns are lost."""
        self._agree(where, table.length)
        dtypes = list(table.empty().dtypes)
        if not dtypes or not all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in dtypes):
            return "it is a table with columns that are no plain numbers"
        dtype = np.result_type(*dtypes)
        columns = list(table.columns.values())

        def read(start: int, stop: int) -> npt.NDArray[Any]:
            return np.stack([np.asarray(column.read(start, stop), dtype) for column in columns], axis=1)

        return Array(len(columns), dtype, read)

    def _agree(self, where: str, rows: int) -> None:
        if rows != self.length:
            raise SourceError(f"{where} has {rows} rows, not {self.length}; the file is broken")


def shown(left: dict[str, str]) -> str:
    """Return what was left out, in words.

    Examples
    --------
    >>> shown({"X_graph": "it is encoded as 'csr_matrix'"})
    "'X_graph' (it is encoded as 'csr_matrix')"
    """
    return ", ".join(f"{name!r} ({why})" for name, why in left.items())

"""Values and indices of an .h5ad file, checked and turned into CSR."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...chunk import csr
from ...errors import CountsError, RoundedCountsWarning, SourceError
from ...stats import kernels
from ..arrays import rounded
from ..summary import Exact
from .file import Stored
from .preads import TASK_BYTES, Disk, Reader, threads

PEEK = 4096
"""Values that are read to tell counts from others."""

LARGEST = 2_000_000
"""Non-zeros of the largest chunk that a plan asks for."""


@dataclass(frozen=True, eq=False)
class Names:
    """What cells and genes are called, for messages.

    Parameters
    ----------
    matrix
        What the matrix is called, with its file.
    cell, gene
        Return the name of a cell or gene, by position.
    rounding
        What to do about whole numbers that are no float32.
    exact
        Keeps those of a counter's summary, which go to obs.
    """

    matrix: str
    cell: Callable[[int], str]
    gene: Callable[[int], str]
    rounding: Rounding
    exact: Exact = field(default_factory=Exact)

    def check_rounded(self, values: npt.NDArray[Any], place: Callable[[int], tuple[int, int]]) -> None:
        """Raise `CountsError`, or warn, of numbers some of which are no float32; do nothing if that is no matter.

        Parameters
        ----------
        place
            Returns the cell and gene of a value, by its position.
        """
        if self.rounding == "ignore" and not self.exact.columns:
            return
        large = rounded(values.astype(np.float64))
        if self.exact.columns:
            large = large[[not self.exact.keep(*place(at), values[at]) for at in large.tolist()]]
        if self.rounding == "ignore" or not len(large):
            return
        cell, gene = place(int(large[0]))
        what = f"{values[large[0]]:.0f} for gene {self.gene(gene)!r}"
        if self.rounding == "warn":
            warnings.warn(
                f"{self.matrix}: {len(large)} counts are no float32 numbers and are rounded, by at most 6e-8 of their "
                f"value: cell {self.cell(cell)!r} has {what}",
                RoundedCountsWarning,
                stacklevel=3,
            )
            return
        raise CountsError(
            f"{self.matrix}: cell {self.cell(cell)!r} has {what}: X is float32, which "
            "does not hold every whole number above 16777216. If these are no counts, say what they are with holds="
        )


Rounding = Literal["refuse", "warn", "ignore"]

Values = tuple[npt.NDArray[np.float32], npt.NDArray[Any] | None]
"""As float32, and as they were in the file where a whole number was rounded."""


def read_values(reader: Reader, start: int, stop: int) -> Values:
    """Read values as float32; those of that type go straight into their place."""
    native = np.dtype(np.float32)
    if reader.stored.dtype == native:
        return reader.read(start, stop, np.empty(stop - start, dtype=native)), None
    values = reader.read(start, stop)
    out, lossy = float32(values)
    return out, values if lossy else None


def float32(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], bool]:
    """Return values as float32, and whether a whole number was rounded."""
    if values.dtype == np.float32 and values.dtype.isnative:
        return values, False
    if values.dtype.kind == "f" and values.dtype.itemsize == 2:
        return values.astype(np.float32), False
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    out = np.empty(values.shape, dtype=np.float32)
    return out, bool(kernels.to_float32(values, out))


def read_indices(reader: Reader, start: int, stop: int, n: int) -> npt.NDArray[np.int32]:
    """Read row or column numbers as int32; one that is not in 0 to n - 1 becomes -1."""
    if reader.stored.dtype == np.dtype(np.int32):
        return reader.read(start, stop, np.empty(stop - start, dtype=np.int32))
    values = reader.read(start, stop)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    out = np.empty(len(values), dtype=np.int32)
    if kernels.to_int32(values, n, out):
        out[(values < 0) | (values >= n)] = -1
    return out


def finished(
    indptr: npt.NDArray[np.int32],
    indices: npt.NDArray[np.int32],
    values: Values,
    first: int,
    n_vars: int,
    names: Names,
) -> sparse.csr_array:
    """Return rows as they must be: columns in order and in range, no zeros, finite.

    Parameters
    ----------
    indptr, indices
        Changed in place where they must be.
    values
        What `read_values` returns.
    first
        Position of the first cell, for messages.

    Raises
    ------
    SourceError
        If a column is not there or comes twice, or a value is not finite.
    CountsError
        If a whole number is no float32 and counts are wanted.
    """
    data, wide = values
    if wide is not None:
        names.check_rounded(wide, lambda at: (first + _row(indptr, at), int(indices[at])))
    found = kernels.inspect_csr(indptr, indices, data, n_vars)
    if found & kernels.OUTSIDE:
        at = int(np.flatnonzero((indices < 0) | (indices >= n_vars))[0])
        raise SourceError(
            f"{names.matrix}: cell {names.cell(first + _row(indptr, at))!r} has a value for a gene that is not there "
            f"(index not in 0 to {n_vars - 1}); the file is broken"
        )
    if found & kernels.NOT_FINITE:
        at = int(np.flatnonzero(~np.isfinite(data))[0])
        raise SourceError(
            f"{names.matrix}: cell {names.cell(first + _row(indptr, at))!r} has {data[at]} for gene "
            f"{names.gene(int(indices[at]))!r}; numbers are needed, within the range of float32"
        )
    if found & kernels.UNSORTED:
        twice = int(kernels.sort_rows(indptr, indices, data))
        if twice >= 0:
            row = indices[indptr[twice] : indptr[twice + 1]]
            gene = names.gene(int(row[:-1][row[1:] == row[:-1]][0]))
            raise SourceError(
                f"{names.matrix}: cell {names.cell(first + twice)!r} has gene {gene!r} more than once; "
                "sum them first (adata.X.sum_duplicates())"
            )
    X = csr(data, indices, indptr, n_vars)
    if found & kernels.ZEROS:
        X.eliminate_zeros()
    return X


def check_lines(indptr: npt.NDArray[np.int64], most: int, matrix: str, name: Callable[[int], str], places: str) -> None:
    """Raise `SourceError` if a row or column has more values than places: it would take memory without end."""
    lengths = np.diff(indptr)
    if lengths.max(initial=0) > most:
        at = int(lengths.argmax())
        raise SourceError(
            f"{matrix}: {name(at)!r} has {lengths[at]:,} values, but there are {most:,} {places}; the file is broken, "
            "or values of one place are to be summed first (adata.X.sum_duplicates())"
        )


def peek(disk: Disk, stored: Stored) -> npt.NDArray[np.float64]:
    """Return the first values that are stored, zeros left out."""
    with ThreadPoolExecutor(1) as pool:
        values = Reader(disk, stored, pool).read(0, min(PEEK, stored.shape[0]))
    found: npt.NDArray[np.float64] = values[values != 0].astype(np.float64)
    return found


def stacked(parts: Sequence[sparse.csr_array]) -> sparse.csr_array:
    """Return matrices one below the other."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([[0], *(np.diff(part.indptr) for part in parts)])
    data, indices = np.concatenate([part.data for part in parts]), np.concatenate([part.indices for part in parts])
    return csr(data, indices, np.cumsum(lengths).astype(np.int32), parts[0].shape[1])


def decoding(stored: Stored) -> int:
    """Return the bytes that threads hold while they decode tiles."""
    return 0 if stored.tile is None else 3 * threads() * max(stored.tile_bytes, TASK_BYTES)


def working(stored: Stored, wanted: npt.DTypeLike) -> int:
    """Return the bytes that reading a vector takes beside the numbers wanted."""
    converted = 0 if stored.dtype == np.dtype(wanted) else stored.dtype.itemsize * min(stored.shape[0], LARGEST)
    return converted + stored.tile_bytes + decoding(stored)


def _row(indptr: npt.NDArray[np.int32], at: int) -> int:
    return int(np.searchsorted(indptr, at, side="right")) - 1

"""A folder of matrix.mtx, barcodes.tsv and genes.tsv (version 2) or features.tsv (version 3), plain or .gz.

The text is read once, some values at a time, into a temporary file of 12 bytes per value; values that are not in
the order of cells are dealt out to bands of cells in a second one. So memory stays flat.
"""

from __future__ import annotations

import gzip
import io
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ...chunk import csr
from ...errors import HeadraceError, InputError, SourceError
from ...support.scratch import Scratch
from ..arrays import rounded
from ..h5ad.values import Names
from ..ranges import CellRange, cut
from ..tables.text import read_text

RECORD = np.dtype([("cell", "<i4"), ("gene", "<i4"), ("value", "<f4")])
BLOCK = 1 << 19
"""Lines at a time."""

LONGEST_LINE = 1 << 16
"""Characters."""


def find(folder: Path, *names: str) -> Path:
    """Return the one file of these names, or with a prefix, or packed.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    for name in names:
        for pattern in (name, f"{name}.gz", f"*{name}", f"*{name}.gz"):
            found = sorted(folder.glob(pattern))
            if len(found) > 1:
                raise InputError(f"{folder} has several: {', '.join(f.name for f in found[:4])}; one sample a folder")
            if found:
                return found[0]
    raise InputError(f"{folder} has no {' or '.join(names)} (or .gz of it), so it is no 10x folder")


def read_features(path: Path) -> pd.DataFrame:
    """Read genes.tsv (two columns) or features.tsv (three or more)."""
    rows = [line.rstrip("\r").split("\t") for line in read_text(path).data.decode().split("\n") if line.strip()]
    width = max(len(row) for row in rows)
    if width == 1:
        rows, width = [[row[0], row[0]] for row in rows], 2
    if any(len(row) < 2 for row in rows):
        raise InputError(f"{path} has lines without a name of the gene")
    return pd.DataFrame(
        {
            "feature_id": [row[0] for row in rows],
            "feature_name": [row[1] for row in rows],
            "feature_types": [row[2] if len(row) > 2 and row[2] else "Gene Expression" for row in rows],
        }
    )


def read_barcodes(path: Path) -> pd.Index:
    """Read the names of cells, one a line; of several columns the first."""
    lines = read_text(path).data.decode().split("\n")
    return pd.Index([line.rstrip("\r").split("\t")[0] for line in lines if line.strip()], dtype=object)


@dataclass(frozen=True, eq=False)
class Mtx:
    """The matrix of such a folder, genes x cells in the file; see the page of this module."""

    path: Path
    n_obs: int
    n_vars: int
    folder: str
    names: Names
    lock: threading.Lock = field(default_factory=threading.Lock)

    spooled = False

    @property
    def nnz(self) -> int:
        """How many values the file says that it has."""
        return self._head[2]

    expected = nnz

    @property
    def bytes(self) -> int:
        """Bytes to be read."""
        return self.path.stat().st_size

    @property
    def memory(self) -> int:
        """Bytes held beside the chunks."""
        return 120 * BLOCK + 16 * self.n_obs

    @property
    def scratch(self) -> int:
        """Bytes of temporary files."""
        return 2 * RECORD.itemsize * self.nnz

    @cached_property
    def _head(self) -> tuple[int, int, int, int]:
        """Features, cells, values, and how many lines stand before the values."""
        with _text(self.path) as text:
            first = text.readline(LONGEST_LINE).lower().split()
            if first[:3] != ["%%matrixmarket", "matrix", "coordinate"]:
                raise InputError(f"{self.path} is no sparse Matrix Market file")
            if first[3:4] not in (["integer"], ["real"]) or first[4:5] not in (["general"], []):
                raise InputError(f"{self.path} holds {' '.join(first[3:])} values, not integer or real, general")
            lines, ended, comment = 1, True, False
            for line in iter(partial(text.readline, LONGEST_LINE), ""):
                lines += 1
                comment = line.startswith("%") if ended else comment  # a long one comes in several parts
                ended = line.endswith("\n")
                if not comment and line.strip():
                    break
            else:
                raise InputError(f"{self.path} is cut off")
            try:
                n_vars, n_obs, nnz = (int(one) for one in line.split())
            except ValueError:
                raise InputError(f"{self.path}, line {lines}: {line[:40]!r} is no size of a matrix") from None
        if (n_vars, n_obs) != (self.n_vars, self.n_obs):
            raise InputError(
                f"{self.path} is {n_vars} x {n_obs}, but there are {self.n_vars} features and {self.n_obs} barcodes"
            )
        if nnz > n_vars * n_obs:
            raise SourceError(f"{self.path} says that {n_vars:,} x {n_obs:,} places have {nnz:,} values; it is broken")
        return n_vars, n_obs, nnz, lines

    @cached_property
    def _read(self) -> tuple[Scratch, npt.NDArray[np.int64]]:
        """The values in the order of cells, and how many come before each cell."""
        with self.lock:
            file, per_cell, at, last, ordered = (
                Scratch(self.folder, "scratch="),
                np.zeros(self.n_obs, np.int64),
                0,
                -1,
                True,
            )
            for block in self._blocks():
                cells = block["cell"]
                per_cell += np.bincount(cells, minlength=self.n_obs)
                ordered = ordered and bool((np.diff(cells, prepend=last) >= 0).all())
                last = int(cells[-1]) if len(cells) else last
                at += len(block)
                if at > self.nnz:  # before they are written: there may be any number
                    break
                file.write(block.view(np.uint8), (at - len(block)) * RECORD.itemsize)
            if at != self.nnz:
                raise SourceError(
                    f"{self.path} says that it has {self.nnz:,} values, but has "
                    f"{f'{at:,}; it may be cut off' if at < self.nnz else 'more; it is broken'}"
                )
            total = np.concatenate([[0], np.cumsum(per_cell)]).astype(np.int64)
            return (file if ordered else self._sorted(file, total)), total

    def _sorted(self, file: Scratch, total: npt.NDArray[np.int64]) -> Scratch:
        """Deal the values out to bands of cells, each at its place."""
        bands = cut(total, BLOCK)
        starts = np.array([band.start for band in bands])
        place = total[starts].copy()
        out = Scratch(self.folder, "scratch=")
        for start in range(0, self.nnz, BLOCK):
            block = np.empty(min(BLOCK, self.nnz - start), RECORD)
            file.read(block.view(np.uint8), start * RECORD.itemsize)
            of = np.searchsorted(starts, block["cell"], side="right") - 1
            order = np.argsort(of, kind="stable")
            ends = np.cumsum(np.bincount(of, minlength=len(bands)))
            for band, (a, b) in enumerate(zip(np.r_[0, ends[:-1]], ends, strict=True)):
                if b > a:
                    out.write(block[order[a:b]].view(np.uint8), int(place[band]) * RECORD.itemsize)
                    place[band] += b - a
        for span in bands:  # a band is as its values came; spans that are read later are cut elsewhere
            block = np.empty(int(total[span.stop] - total[span.start]), RECORD)
            at = int(total[span.start]) * RECORD.itemsize
            out.read(block.view(np.uint8), at)
            out.write(block[np.argsort(block["cell"], kind="stable")].view(np.uint8), at)
        return out

    def _blocks(self) -> Iterator[npt.NDArray[Any]]:
        with _text(self.path) as text:
            for _ in range(self._head[3]):
                text.readline(LONGEST_LINE)
            try:
                parts = pd.read_csv(
                    _Lines(text, self.path),
                    sep=r"\s+",
                    header=None,
                    names=["gene", "cell", "value"],
                    chunksize=BLOCK,
                    comment="%",
                    dtype={"gene": np.int64, "cell": np.int64, "value": np.float64},
                    index_col=False,
                )
                for part in parts if self.nnz else ():
                    block = np.empty(len(part), RECORD)
                    values = part["value"].to_numpy()
                    for name, n in (("gene", self.n_vars), ("cell", self.n_obs)):
                        numbers = part[name].to_numpy() - 1
                        if ((numbers < 0) | (numbers >= n)).any():
                            raise SourceError(f"{self.path}: {name} {int(part[name].max())} is not in 1 to {n}")
                        block[name] = numbers
                    if not (np.abs(values) <= np.finfo(np.float32).max).all():
                        raise SourceError(f"{self.path}: a value is missing, infinite or beyond what float32 holds")
                    if len(rounded(values)):
                        cell, gene = block["cell"], block["gene"]
                        self.names.check_rounded(values, lambda at: (int(cell[at]), int(gene[at])))  # noqa: B023
                    block["value"] = values
                    yield block
            except (ValueError, OverflowError, OSError, EOFError, zlib.error) as error:
                if isinstance(error, HeadraceError):
                    raise
                raise SourceError(f"{self.path} is damaged: {error}; copy it again") from error

    def peek(self) -> npt.NDArray[np.float64]:
        """Return some of its values."""
        first = next(iter(self._blocks()), np.empty(0, RECORD))
        return np.asarray(first["value"][:4096], np.float64)

    def refs(self, target: int) -> list[CellRange]:
        """Return spans of about `target` values."""
        return cut(self._read[1], target)

    def read(self, refs: Sequence[CellRange]) -> Iterator[sparse.csr_array]:
        """Yield the matrix of each span, in order."""
        file, total = self._read
        for span in refs:
            block = np.empty(int(total[span.stop] - total[span.start]), RECORD)
            file.read(block.view(np.uint8), int(total[span.start]) * RECORD.itemsize)
            order = np.lexsort((block["gene"], block["cell"]))
            block = block[order]
            twice = (np.diff(block["cell"]) == 0) & (np.diff(block["gene"]) == 0)
            if twice.any():
                raise SourceError(
                    f"{self.path}: cell {int(block['cell'][twice.argmax()]) + 1} has a gene more than once"
                )
            indptr = (total[span.start : span.stop + 1] - total[span.start]).astype(np.int32)
            X = csr(block["value"].copy(), block["gene"].copy(), indptr, self.n_vars)
            if not X.data.all():
                X.eliminate_zeros()
            yield X


class _Lines:
    """Text of which no line is longer than any that a matrix has: pandas would hold it whole.

    Parameters
    ----------
    text, path
        Where it comes from.
    """

    def __init__(self, text: IO[str], path: Path) -> None:
        self.text, self.path, self.open = text, path, 0

    def __iter__(self) -> Iterator[str]:
        return iter(self.text)

    def read(self, n: int) -> str:
        """Return the next characters."""
        part = self.text.read(n)
        end, start = part.rfind("\n"), part.find("\n")
        longest = max(self.open + (len(part) if start < 0 else start), len(part) - 1 - end if end >= 0 else 0)
        if longest > LONGEST_LINE:
            raise SourceError(f"{self.path} has a line of more than {LONGEST_LINE:,} characters; it is no matrix")
        self.open = self.open + len(part) if end < 0 else len(part) - 1 - end
        if "\0" in part:  # pandas ends a number there, and 5\03 would be 5
            raise SourceError(f"{self.path} has a NUL byte among its values; it is damaged, so copy it again")
        return part


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        inner: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(inner, "utf-8", "replace") as text:
            yield text

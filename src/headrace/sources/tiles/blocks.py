"""Blocks: the cells whose tiles are decoded together, and the ranges that they are cut into or joined to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from ...chunk import csr
from ...errors import SourceError
from ..ranges import CellRange
from .decode import DAMAGE
from .fragment import FILES, Ints
from .readahead import Piece

MOST_TILES = 8_000_000
"""Values of the tiles of a block, wanted or not, unless they are of one band of rows."""


@dataclass(eq=False)
class Block:
    """Some cells that are put into rows together: one range or several of one band, or a part of a range.

    Parameters
    ----------
    ranges
        The cells, one range after another.
    pieces
        The tiles that hold them.
    more
        Whether the next block has further cells of the range.
    """

    ranges: list[CellRange]
    pieces: list[Piece]
    more: bool = False

    @property
    def cells(self) -> CellRange:
        """All of its cells."""
        return CellRange(self.ranges[0].start, self.ranges[-1].stop)

    @property
    def tile_values(self) -> int:
        """Values of its tiles, wanted or not."""
        return sum(int(piece.tiles.cells.sum()) for piece in self.pieces)


def parts(one: CellRange, joinids: Ints, extent: int, tile_values: int) -> Sequence[CellRange]:
    """Cut a range at edges of bands, so that no part has the tiles of too many bands: cells of a sample lie far apart.

    Parameters
    ----------
    one, joinids
        Its positions, and the numbers of its cells.
    extent
        Rows of a band.
    tile_values
        Values of the tiles of all of it.

    Examples
    --------
    >>> parts(CellRange(10, 14), np.array([0, 1, 5, 9]), 4, 16_000_000)
    [CellRange(start=10, stop=12), CellRange(start=12, stop=14)]
    """
    edges = one.start + 1 + np.flatnonzero(np.diff(joinids // extent))
    n = min(-(-tile_values // MOST_TILES), len(edges) + 1)
    inner = edges[np.arange(1, n) * (len(edges) + 1) // n - 1].tolist()
    bounds = [one.start, *inner, one.stop]
    return [CellRange(start, stop) for start, stop in pairwise(bounds)]


def cut(X: sparse.csr_array, start: int, stop: int) -> sparse.csr_array:
    """Return some rows; values and indices are shared."""
    a, b = X.indptr[start], X.indptr[stop]
    return csr(X.data[a:b], X.indices[a:b], X.indptr[start : stop + 1] - a, X.shape[1])


def joined(found: Sequence[sparse.csr_array]) -> sparse.csr_array:
    """Return the rows of some matrices, one after another."""
    if len(found) == 1:
        return found[0]
    ends = np.cumsum([X.nnz for X in found])
    pointers = [X.indptr[1:] + end - X.nnz for X, end in zip(found, ends, strict=True)]
    indptr = np.concatenate([found[0].indptr[:1], *pointers]).astype(np.int32)
    data, indices = (np.concatenate([getattr(X, name) for X in found]) for name in ("data", "indices"))
    return csr(data, indices, indptr, found[0].shape[1])


def check_decoded(found: Sequence[int], piece: Piece, file: int) -> None:
    """Raise if a loop has found damage: in a file, or in that one and the next."""
    code, tile = found
    if code:
        files = FILES[0] if file == 0 else f"{FILES[1]} or {FILES[2]}"
        raise SourceError(
            f"tile {piece.tiles.numbers[tile]} of {piece.fragment.folder}/{files} is damaged: {DAMAGE[code]}; "
            "fetch the data again"
        )

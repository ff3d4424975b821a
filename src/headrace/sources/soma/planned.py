"""How many bytes an array's cells take: where they are stored, and while TileDB reads them."""

from __future__ import annotations

from ...errors import SourceError
from ..tiles.generic import Declined
from ..tiles.store import open_store
from .location import BUFFER_BYTES, Location
from .obs import TILE

MIN_TILE_BYTES = 64 << 20
TILES_USED = 0.5
"""What TileDB has been seen to take of its budget for tiles."""


def fragment_bytes(where: Location, otherwise: float) -> float:
    """Return the bytes of the fragments of a remote array, by one listing; or a guess where it cannot be listed."""
    try:
        files = open_store(where.uri, where.settings(), where.traffic).list()
    except (Declined, SourceError):
        return otherwise
    kept = [n for path, n in files.items() if path.startswith("__fragments/") and not path.endswith("metadata.tdb")]
    return float(sum(kept)) or otherwise


def reading_memory(band: int, nnz: int, tile_bytes: int, n_obs: int) -> int:
    """Return how many bytes reading by TileDB takes, given the values of the largest band and of all cells."""
    bands = 10 * band + min(4 * band, 12 << 20)  # one fills while another empties; a large one is never whole
    pieces = min(nnz // 20, 40 << 20)  # what a long run leaves unused between what is used
    buffers = 2 * 3 * BUFFER_BYTES + 200 * min(n_obs, TILE) + bands + pieces
    tiles = min(max(int(TILES_USED * tile_bytes), min(tile_bytes, MIN_TILE_BYTES)), 20 * nnz)
    return tiles + buffers

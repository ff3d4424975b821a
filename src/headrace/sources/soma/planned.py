"""How many bytes an array's cells take where they are stored, before they are fetched."""

from __future__ import annotations

from ...errors import SourceError
from ..tiles.generic import Declined
from ..tiles.store import open_store
from .location import Location


def fragment_bytes(where: Location, otherwise: float) -> float:
    """Return the bytes of the fragments of a remote array, by one listing; or a guess where it cannot be listed."""
    try:
        files = open_store(where.uri, where.settings(), where.traffic).list()
    except (Declined, SourceError):
        return otherwise
    kept = [n for path, n in files.items() if path.startswith("__fragments/") and not path.endswith("metadata.tdb")]
    return float(sum(kept)) or otherwise

"""Which reader reads X: that of tiles where it may, TileDB everywhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from ...errors import InputError, nearest
from ..tiles.fragment import Fragment
from ..tiles.gate import open_fragments
from ..tiles.generic import Declined
from ..tiles.store import Store
from .location import Location

Reader = Literal["auto", "tiles", "tiledb"]
READERS = ("auto", "tiles", "tiledb")

ENVIRONMENT = "HEADRACE_READER"
"""What "auto" means, if it is set: "tiles" or "tiledb". For tests, and to compare both without changing a program."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What was decided.

    Parameters
    ----------
    fragments
        Of the array, for the reader of tiles; empty if TileDB reads.
    note
        Which reader and why, for `explain`.
    """

    fragments: tuple[Fragment, ...]
    note: str


def check_reader(reader: str) -> None:
    """Raise `InputError` if there is no such reader."""
    if reader not in READERS:
        raise InputError(f"there is no reader {reader!r}; {nearest(str(reader), READERS)}")


def choose_reader(where: Location, asked: Reader, store: Store | None = None) -> Choice:
    """Decide who reads an array.

    Parameters
    ----------
    where
        Of the array.
    asked
        "auto": tiles where the gate lets them be read, else TileDB. "tiles", "tiledb": that one.
    store
        Where its files are, if they were listed already.

    Raises
    ------
    InputError
        If tiles were asked for and may not be read; says why.
    """
    wanted = (os.environ.get(ENVIRONMENT) or "auto") if asked == "auto" else asked
    check_reader(wanted)
    if wanted == "tiledb":
        return Choice((), "TileDB, as asked")
    try:
        if where.timestamp is not None:
            raise Declined("a time in the past was asked for")
        fragments = open_fragments(where.uri, where.settings(), store=store, traffic=where.traffic)
    except Declined as declined:
        if wanted == "tiles":
            raise InputError(
                f"reader='tiles' cannot read {where.uri}, because {declined}; reader='auto' lets TileDB read it"
            ) from declined
        return Choice((), f"TileDB, because {declined}")
    return Choice(tuple(fragments), "tiles, without TileDB")

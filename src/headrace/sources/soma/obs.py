"""Columns of obs, read in the order of the stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ...errors import SourceError
from ...rows import CellRows, ObsRows
from ...support.retry import call
from ...traffic import Traffic
from ..compact import Ints, Joinids
from ..tiles.layout import Rows
from .arrays import Frame, spread
from .location import reading
from .tables import Known, to_frame

BLOCK = 16384
"""Cells that are made a pandas table at once: that of each chunk by itself would take longer than its X."""

TILE = 65536
"""The capacity of a tile of the Census's obs. Cells per query where they are few among many, or not in order."""

CELL_BYTES = 40
"""Of all columns of a cell as stored, about."""

RUN = 1 << 20
"""Cells per query."""

FAR_RUN = 1 << 18
"""Cells per query where they are far away: the next ones are fetched meanwhile."""


class Annotations:
    """Reads annotations of cells by their position in the query.

    Cells in order are read by one query, and what it brings is made into tables as they are needed. At the end of each
    query TileDB gives all free memory of the process back to the system, and to fetch it again takes time.

    Parameters
    ----------
    obs
        The DataFrame, open, or as a `Frame`.
    joinids
        The query's cells.
    columns
        Names of the columns.
    index
        The column that is to be the index, and no column then; None: `soma_joinid` as text, as in `get_anndata`. The
        index has no name.
    traffic
        Of the way to it, if it is far away: what fails is read again.
    """

    def __init__(
        self,
        obs: Any,
        joinids: Joinids,
        columns: Sequence[str],
        index: str | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.traffic = traffic
        self.obs = obs if isinstance(obs, Frame) else Frame(obs, None)
        self.joinids, self.index = joinids, index
        self.columns = ["soma_joinid", *(name for name in columns if name != "soma_joinid")]
        self.ordered = True
        self.known: tuple[int, Ints, Rows] | None = None
        self.lock = threading.Lock()
        self.categories: Known = {}
        self.first, self.block = 0, CellRows.of(pd.DataFrame())
        """The table at hand, and the position of its first cell."""
        self.coming: Iterator[pa.Table] = iter(())
        """What follows it."""

    def stored_bytes(self) -> int:
        """Return about how many bytes are fetched for the columns of the cells, in whole tiles, if it is far away."""
        if self.traffic is None:
            return 0
        tiles = np.unique(np.concatenate([np.unique(part // TILE) for part in self.joinids.parts()]))
        last = TILE * (len(tiles) - 1) + min(TILE, int(self.obs.array.count) - TILE * int(tiles[-1]))
        return max(last, len(self.joinids)) * CELL_BYTES

    def empty(self) -> pd.DataFrame:
        """Return no rows: the names and dtypes, with every category the column can have."""
        with reading("obs"):
            table = self.obs.empty(self.columns)
        for name, values in zip(table.column_names, table.columns, strict=True):
            if pa.types.is_dictionary(values.type) and not any(len(part.dictionary) for part in values.chunks):
                self._refuse_lost(name)
        return _frame(table, self.index)

    def _refuse_lost(self, name: str) -> None:
        """Raise if there are codes of categories, but no category."""
        with reading(f"obs[{name!r}]"):
            if any(len(table) > table[name].null_count for table in self.obs.read([name])):
                raise SourceError(
                    f"obs[{name!r}] has codes of categories that are not stored, for any program: tiledbsoma loses "
                    "them if an obs is created and written within one opening of its experiment. Write the column again"
                )

    @contextmanager
    def begun(self, position: int) -> Iterator[None]:
        """Fetch the cells from a position on in the background, if they are far away, until the block fails."""
        self._begin(position)
        try:
            yield
        except BaseException:
            self.obs.stop()
            raise

    def _begin(self, position: int) -> None:
        if position < len(self.joinids):
            self.obs.ahead(self.columns, self._run(position)[1])

    def read(self, start: int, stop: int) -> ObsRows:
        """Return the cells at positions `start` to `stop`, indexed by their names."""
        parts: list[CellRows] = []
        with self.lock:
            while start < stop:
                call(self.traffic, "obs", partial(self._go_to, start))
                parts.append(self.block.take(slice(start - self.first, stop - self.first)))
                start += len(parts[-1])
        return parts[0] if len(parts) == 1 else pd.concat([part.table for part in parts])

    def _go_to(self, position: int) -> None:
        """Have the table at hand that has a cell."""
        end = self.first + len(self.block)
        if self.first <= position < end:
            return
        if position != end:
            self.coming = iter(())
        self.first, self.block = position, CellRows.of(pd.DataFrame())
        table = next(self.coming, None)
        if table is None:
            self.coming = self._tables(position)
            table = next(self.coming)
        self.block = CellRows.of(_frame(table, self.index, self.categories))
        if self.traffic is not None and self.obs.replica is None:  # else they were counted as they came
            self.traffic.arrived(len(table) * CELL_BYTES)

    def _tables(self, position: int) -> Iterator[pa.Table]:
        """Yield the cells from a position on, at most `BLOCK` at a time."""
        while position < len(self.joinids):
            joinids, rows = self._run(position)
            for table in self._in_order(joinids, rows) if self.ordered else [self._sorted(joinids, rows)]:
                self._begin(position + len(joinids))
                for first in range(0, len(table), BLOCK):
                    yield table.slice(first, BLOCK)
            position += len(joinids)

    def _run(self, position: int) -> tuple[Ints, Rows]:
        """Return the cells of the query that begins at a position, and how to ask for them."""
        known = self.known
        if known is None or known[0] != position:
            run = RUN if self.obs.replica is None else FAR_RUN
            joinids = self.joinids[position : position + run]
            if not isinstance(spread(joinids), tuple) or not self.ordered:
                joinids = joinids[:TILE]
            known = self.known = position, joinids, spread(joinids)
        return known[1:]

    def _in_order(self, joinids: Ints, rows: Rows) -> Iterator[pa.Table]:
        """Yield cells as TileDB brings them, without those between; sorted, once they do not come in order."""
        done = 0
        for table in self._query(joinids, rows):
            found = table["soma_joinid"].to_numpy()
            at = np.searchsorted(joinids, found)
            wanted = joinids[np.minimum(at, len(joinids) - 1)] == found
            if not wanted.all():
                table, at = table.filter(pa.array(wanted)), at[wanted]
            if not np.array_equal(at, np.arange(done, done + len(at))):
                self.ordered = False
                break
            done += len(at)
            yield table
        for rest in range(done, len(joinids), TILE):
            part = joinids[rest : rest + TILE]
            yield self._sorted(part, spread(part))

    def _sorted(self, joinids: Ints, rows: Rows) -> pa.Table:
        """Return cells in order, in whatever order TileDB brings them."""
        changed = SourceError(f"obs changed while it was read, at cells {joinids[0]} to {joinids[-1]}")
        tables = list(self._query(joinids, rows))
        if not sum(map(len, tables)):
            raise changed
        table = pa.concat_tables(tables)
        found = table["soma_joinid"].to_numpy()
        if not (np.diff(found) > 0).all():
            order = np.argsort(found, kind="stable")
            table, found = table.take(order), found[order]
        if len(found) > len(joinids):
            table = table.take(np.minimum(np.searchsorted(found, joinids), len(found) - 1))
            found = table["soma_joinid"].to_numpy()
        if not np.array_equal(found, joinids):
            raise changed
        return table

    def _query(self, joinids: Ints, rows: Rows) -> Iterator[pa.Table]:
        """Yield cells and perhaps others between them."""
        with reading(f"obs of cells {joinids[0]} to {joinids[-1]}"):
            yield from self.obs.stream(self.columns, rows)


def _frame(table: pa.Table, index: str | None, categories: Known | None = None) -> pd.DataFrame:
    """Return cells as pandas has them."""
    frame = to_frame(table, categories)
    frame.index = pd.Index(list(map(str, table[index or "soma_joinid"].to_pylist())), dtype=object)
    return frame if index is None else frame.drop(columns=index)

"""Reading an array of SOMA: if it is far away, what a query needs is fetched first, many ranges at once."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pyarrow as pa
import tiledbsoma as soma

from ...support.retry import until
from ..tiles.generic import Declined
from ..tiles.layout import Ints, Rows
from .replica import Replica

JOINID = "soma_joinid"
ROWS = (JOINID, "soma_dim_0")

FEW_BYTES = 1 << 20
"""Of columns that may not be needed: to wait for the filter's answer before they are asked for takes longer."""


class Frame:
    """A DataFrame of SOMA, or a sparse matrix, open for reading.

    Parameters
    ----------
    array
        What is open.
    replica
        Its files, if it is far away and was opened from what was fetched of it.
    """

    def __init__(self, array: Any, replica: Replica | None) -> None:
        self.array, self.replica = array, replica
        self._coming: tuple[Rows, Future[Frame]] | None = None
        self._stopped = threading.Event()
        self.damaged = False

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [field.name for field in self.array.schema]

    def read(self, columns: Sequence[str], rows: Rows = None, value_filter: str | None = None) -> Iterator[pa.Table]:
        """Read columns of some rows, in whatever order TileDB brings them.

        Parameters
        ----------
        columns
            Their names.
        rows
            All, those from one to another, or some, increasing.
        value_filter
            Of SOMA; only rows that pass.
        """
        if self.replica is not None and value_filter is not None:
            others = [name for name in columns if name not in self._named_in(value_filter)]
            if self._bytes(others, rows) > FEW_BYTES:
                return self._read_passed(columns, rows, value_filter)
        return self._read(columns, rows, value_filter)

    def empty(self, columns: Sequence[str]) -> pa.Table:
        """Return no rows of some columns: their types, with every category that a column can have."""
        if self.replica is None:
            return self.array.read(column_names=columns, **self._told((0, 0), None)).concat().slice(0, 0)
        schema = self.array.schema
        fields = [schema.field(name) for name in columns]
        encoded = [field.name for field in fields if pa.types.is_dictionary(field.type)]
        if not hasattr(self.array, "get_enumeration_values"):  # tiledbsoma before 1.18
            return pa.concat_tables(self._read(columns, (0, 0), None)).slice(0, 0)
        values = self.array.get_enumeration_values(encoded) if encoded else {}
        parts = []
        for field in fields:
            part = pa.array([], field.type)
            if field.name in values:
                kind = field.type
                part = pa.DictionaryArray.from_arrays(
                    pa.array([], kind.index_type), values[field.name].cast(kind.value_type), ordered=kind.ordered
                )
            parts.append(part)
        return pa.Table.from_arrays(parts, schema=pa.schema(fields))

    def cells(self, rows: Ints) -> Iterator[pa.Table]:
        """Read the cells of some rows, increasing, of a sparse matrix."""
        array = self._ready(("soma_data",), rows)
        yield from array.read((rows,)).tables()

    def ahead(self, columns: Sequence[str], rows: Rows) -> None:
        """Fetch in the background what `stream` will be asked for next."""
        if self.replica is not None and self._coming is None:
            coming: Future[Frame] = Future()
            stopped = self._stopped = threading.Event()

            def fetch() -> None:
                try:
                    with until(stopped):
                        coming.set_result(self._branch(columns, rows))
                except BaseException as error:
                    coming.set_exception(error)

            threading.Thread(target=fetch, name="headrace-ahead", daemon=True).start()
            self._coming = rows, coming

    def stop(self) -> None:
        """Let go of what is being fetched in the background: nobody wants it any more."""
        self._coming = None
        self._stopped.set()

    def stream(self, columns: Sequence[str], rows: Rows) -> Iterator[pa.Table]:
        """Read as `read` does, and keep nothing of it on this machine."""
        asked, coming = self._coming or (None, None)
        self._coming = None
        if self.replica is None:
            return self._read(columns, rows, None)
        part = coming.result() if coming is not None and asked is rows else self._branch(columns, rows)
        return part._read(columns, rows, None)

    def _branch(self, columns: Sequence[str], rows: Rows) -> Frame:
        """Return the same DataFrame in a folder of its own, with some rows."""
        assert self.replica is not None
        if not self.replica.understood:
            return self
        replica = self.replica.branch()
        part = Frame(replica.open(), replica)
        part._ready(columns, rows)
        return part

    def _read(self, columns: Sequence[str], rows: Rows, value_filter: str | None) -> Iterator[pa.Table]:
        names = [*columns, *([] if value_filter is None else self._named_in(value_filter))]
        told = {"column_names": list(columns), **self._told(rows, value_filter)}
        beside = JOINID in columns and JOINID not in self._index  # others come along
        wanted = rows if beside and isinstance(rows, np.ndarray) else None
        n = 0
        for attempt in range(2):
            try:
                for table in self._ready(names, rows).read(**told):
                    n += 1
                    yield table if wanted is None else table.filter(pa.array(among(table[JOINID].to_numpy(), wanted)))
                return
            except soma.SOMAError:
                if self.replica is None or n or attempt or not self._anew():
                    raise

    def _told(self, rows: Rows, value_filter: str | None) -> dict[str, Any]:
        """Return what TileDB is told of the rows: where obs is indexed by other columns, between which joinids."""
        names, conditions = list(self._index), [] if value_filter is None else [value_filter]
        told: dict[str, Any] = {}
        if rows is not None and self._by_rows:
            place = slice(*rows) if isinstance(rows, tuple) else rows
            told["coords"] = tuple(place if name in ROWS else None for name in names)
        elif rows is not None:
            first, last = int(rows[0]), int(rows[-1])
            conditions += [f"{JOINID} >= {first} and {JOINID} <= {last}"]
        if conditions:
            told["value_filter"] = conditions[0] if len(conditions) == 1 else " and ".join(f"({c})" for c in conditions)
        return told

    @property
    def _by_rows(self) -> bool:
        """Whether the array is indexed by what rows are called by."""
        return any(name in ROWS for name in self._index)

    def _read_passed(self, columns: Sequence[str], rows: Rows, value_filter: str) -> Iterator[pa.Table]:
        """Let the filter say which rows, then read the columns of those."""
        parts = [table[JOINID].to_numpy() for table in self._read([JOINID], rows, value_filter)]
        joinids = np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)
        if not len(joinids):
            yield self.empty(columns)
            return
        wanted = list(dict.fromkeys([JOINID, *columns]))
        for table in self._read(wanted, spread(joinids), None):
            yield table.filter(pa.array(among(table[JOINID].to_numpy(), joinids))).select(list(columns))

    def _anew(self) -> bool:
        """Open what was fetched anew: it may have been damaged on the way. False if that was tried."""
        assert self.replica is not None
        if self.damaged or not self.replica.understood:
            return False
        self.damaged = True
        self.replica.distrust()
        self.replica.fetch(self.replica.array())
        self.array = self.replica.open()
        return True

    def _ready(self, names: Collection[str], rows: Rows) -> Any:
        """Fetch what reading takes; return the array to read from."""
        if self.replica is not None:
            try:
                self.replica.fetch(self.replica.rows({*names, *self._index}, rows if self._index[0] in ROWS else None))
            except Declined:
                self.array, self.replica = self.replica.location.open(), None
        return self.array

    def _bytes(self, names: Collection[str], rows: Rows) -> int:
        assert self.replica is not None
        try:
            wanted = self.replica.rows(names, rows if self._index[0] in ROWS else None)
        except Declined:
            return 0
        return sum(stop - start for path, start, stop in wanted if not self.replica.fetched.has(path, start, stop))

    @property
    def _index(self) -> Sequence[str]:
        """Names of the dimensions."""
        if self.array.soma_type == "SOMADataFrame":
            return self.array.index_column_names  # type: ignore[no-any-return] # tiledbsoma ships no types
        return [f"soma_dim_{k}" for k in range(self.array.ndim)]

    def _named_in(self, value_filter: str) -> set[str]:
        """Return every column whose name occurs in a filter, or more."""
        return {name for name in self.names if name in value_filter}


def spread(joinids: Ints) -> Rows:
    """Return how to ask for some rows: as all between the first and the last, unless they are few among many."""
    first, last = int(joinids[0]), int(joinids[-1])
    return (first, last) if last - first < 4 * len(joinids) else joinids


def among(found: Ints, joinids: Ints) -> Any:
    """Return which of some numbers are among others, which increase."""
    return joinids[np.minimum(np.searchsorted(joinids, found), len(joinids) - 1)] == found

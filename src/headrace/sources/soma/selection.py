"""The cells of a query: chosen by obs, which is read some cells at a time and never held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ...errors import InputError
from ..compact import Joinids, Sizes
from ..groups import Counts
from ..sample import Sample
from ..tiles.layout import Rows
from .arrays import Frame
from .cells import levels
from .conditions import Filter
from .filters import read_filter
from .location import reading
from .ordered import Ordered
from .tables import to_frame

Ints = npt.NDArray[np.int64]

RUN = 1 << 20
"""Joinids that one query asks for."""

JOINID, NNZ, PRIMARY = "soma_joinid", "nnz", "is_primary_data"


@dataclass(frozen=True)
class Cells:
    """The cells of a query, in a few bits each.

    Parameters
    ----------
    joinids
        Their soma_joinids, increasing.
    nnz
        How many genes each has in X/raw, over all genes, if obs tells.
    matched, duplicates
        How many cells the filter lets through, and how many of those are duplicates of cells in other datasets, before
        these and what is no part of a sample are left out. None: not counted, since obs does not tell.
    counts
        How many cells each value of some columns has, by the name of the column.
    """

    joinids: Joinids
    nnz: Sizes | None
    matched: int
    duplicates: int | None
    counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Selection:
    """Which cells of obs are asked for; they are read some at a time and never held.

    Parameters
    ----------
    obs
        All cells.
    value_filter
        Of SOMA.
    joinids
        The only ones to choose from.
    primary
        Whether duplicates (`is_primary_data` is False) are left out.
    samples
        Of the cells that are left, each of those that the one before leaves.
    where
        The experiment in messages.
    """

    obs: Frame
    value_filter: str | None
    joinids: Joinids | None
    primary: bool
    samples: Sequence[Sample]
    where: str

    def batches(self, columns: Sequence[str], seen: Tally | None = None) -> Iterator[pa.Table]:
        """Yield columns of the cells, and their joinids, in whatever order TileDB brings them.

        Parameters
        ----------
        columns
            Their names.
        seen
            Told of the cells that the filter lets through.

        Raises
        ------
        InputError
            If the filter cannot be parsed or names no column; if a joinid is not there, or is given twice.
        """
        chosen = self._filter()
        by = [name for sample in self.samples for name in sample.by]
        primary = [PRIMARY] if self.primary or (seen is not None and self.marks_duplicates) else []
        more = chosen.columns if chosen is not None and not chosen.exact else []
        wanted = list(dict.fromkeys([JOINID, *columns, *by, *primary, *more]))
        seen = Tally() if seen is None else seen
        for table in self._read(wanted, chosen):
            seen.found += len(table)
            keep = None
            if primary:
                keep = _true(table[PRIMARY]) if self.primary else None
                seen.duplicates += int(_duplicate(table).sum())
            if keep is not None and not keep.all():
                table = table.filter(pa.array(keep))
            for sample in self.samples:
                among = table[JOINID].to_numpy()
                table = table.filter(pa.array(sample.chosen(among, to_frame(table.select(list(sample.by))))))
            yield table
        if self.joinids is not None and self.value_filter is None and seen.found < len(self.joinids):
            self._refuse_missing()

    @property
    def marks_duplicates(self) -> bool:
        """Whether obs says which cells are also in other datasets."""
        return PRIMARY in self.obs.names and pa.types.is_boolean(self.obs.array.schema.field(PRIMARY).type)

    def count(self, by: Sequence[str]) -> Counts:
        """Count the cells of each group, and their duplicates if obs tells."""
        counts = Counts(by)
        known = [PRIMARY] if self.marks_duplicates else []
        for table in self.batches([*by, *known]):
            duplicate = _duplicate(table) if known else None
            counts.add(to_frame(table.select(list(by))), duplicate)
        return counts

    def ranked(self, by: Sequence[str]) -> Iterator[tuple[Ints, pd.DataFrame]]:
        """Yield joinids and columns to group by."""
        for table in self.batches(by):
            yield table[JOINID].to_numpy(), to_frame(table.select(list(by)))

    def named(self, column: str) -> list[Any]:
        """Return the values of a column that the filter asks for by name."""
        chosen = self._filter()
        return [] if chosen is None else chosen.named(column)

    def _filter(self) -> Filter | None:
        if self.value_filter is None:
            return None
        return read_filter(self.value_filter, self.obs.array.schema, partial(levels, self.obs), self.where)

    def _read(self, columns: Sequence[str], chosen: Filter | None) -> Iterator[pa.Table]:
        """Yield the cells that pass the filter."""
        said = None if chosen is None else chosen.soma
        with reading(f"{self.where}/obs"):
            for rows in self._rows():
                for table in self.obs.read(columns, rows, said):
                    exact = chosen is None or chosen.exact
                    yield table if exact else table.filter(pa.array(chosen.passed(table)))  # type: ignore[union-attr]

    def _rows(self) -> Iterator[Rows]:
        """Yield what to ask for, one query after another."""
        joinids = self.joinids
        if joinids is None:
            yield None
            return
        domain = dict(zip(self.obs.array.index_column_names, self.obs.array.domain, strict=True))
        if JOINID in domain:
            first, last = domain[JOINID]
            low, high = joinids.between(joinids[0], first), joinids.between(last + 1, joinids[-1] + 1)
            n = len(low) + len(high)
            if n:
                example = low[0] if len(low) else high[0]
                raise InputError(f"{n} of {len(joinids)} obs_joinids are not in {self.where}/obs, e.g. {example}")
        for start in range(0, len(joinids), RUN):
            part = joinids[start : start + RUN]
            whole = part[-1] - part[0] == len(part) - 1
            yield (int(part[0]), int(part[-1])) if whole else part

    def _refuse_missing(self) -> None:
        assert self.joinids is not None
        found = np.concatenate([table[JOINID].to_numpy() for table in self._read([JOINID], None)])
        missing = np.setdiff1d(self.joinids[:], found)
        raise InputError(
            f"{len(missing)} of {len(self.joinids)} obs_joinids are not in {self.where}/obs, e.g. {missing[0]}"
        )


def _true(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.fill_null(False).to_numpy(), dtype=bool)


def _duplicate(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which cells are said to be in other datasets too, shape (n_obs,)."""
    return ~np.asarray(table[PRIMARY].fill_null(True).to_numpy(), dtype=bool)


def asked_joinids(asked: Iterable[int] | None) -> Joinids | None:
    """Return the joinids that a user gives, in any order.

    Raises
    ------
    InputError
        If there are none, one is given twice, or is no whole number.
    """
    if asked is None or isinstance(asked, Joinids):
        return asked
    values = np.asarray(asked if isinstance(asked, Sized) else list(asked))
    if not values.size:
        raise InputError("obs_joinids is empty")
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise InputError(f"obs_joinids are whole numbers, the soma_joinids of cells, not {values.dtype} {values.shape}")
    values = np.sort(values).astype(np.int64)
    twice = np.flatnonzero(values[1:] == values[:-1])
    if len(twice):
        raise InputError(f"obs_joinids has {values[twice[0]]} more than once")
    return Joinids(values)


@dataclass
class Tally:
    """What came by before anything was left out."""

    found: int = 0
    duplicates: int = 0


def select_cells(selection: Selection, counted: Sequence[str]) -> Cells:
    """Look the cells up, and count the cells of each value of some columns on the way.

    Raises
    ------
    InputError
        As `Selection.batches` does.
    SourceError
        If two cells have one joinid.
    """
    names = selection.obs.names
    nnz = [NNZ] if NNZ in names and pa.types.is_integer(selection.obs.array.schema.field(NNZ).type) else []
    seen, counts = Tally(), {name: Counts([name]) for name in counted}
    made = Ordered(bool(nnz), selection.where)
    for table in selection.batches([*nnz, *counted], seen):
        made.add(table[JOINID].to_numpy(), table[NNZ].to_numpy() if nnz else None)
        for name, one in counts.items():
            one.add(to_frame(table.select([name])))
    joinids, sizes = made.finish()
    duplicates = seen.duplicates if selection.marks_duplicates else None
    return Cells(joinids, sizes, seen.found, duplicates, {name: one.values() for name, one in counts.items()})

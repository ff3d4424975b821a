"""Data frames in anndata's encoding, written in blocks of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from ...rows import CellRows, ObsRows, concatenated
from .columns import Categories, Column, Text, column
from .hdf5 import Storage

BLOCK_ROWS = 1 << 15
"""Rows that are put away at once: a call for each column of each chunk would cost more than writing X."""


class FrameWriter:
    """A dataframe in the making.

    Parameters
    ----------
    group
        An empty group for the table.
    empty
        No rows: names and dtypes of the columns, all categories; the index's name.
    folder
        Where temporary files may be.
    most
        The most rows that can come.
    """

    def __init__(
        self,
        group: h5py.Group,
        empty: pd.DataFrame,
        folder: Path,
        most: int,
        storage: Storage,
    ) -> None:
        index = index_name(empty)
        attributes: dict[str, Any] = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": index}
        attributes["column-order"] = np.array(list(empty.columns), dtype=h5py.string_dtype())
        group.attrs.update(attributes)
        self.waiting: list[CellRows] = []
        self.rows = 0
        self.index = Text(group, index, most, None)
        self.columns: dict[str, Column] = {
            name: column(group, name, empty[name].dtype, folder, most, storage) for name in empty
        }

    def append(self, rows: ObsRows) -> None:
        """Add rows."""
        self.waiting.append(CellRows.of(rows))
        self.rows += len(rows)
        if self.rows >= BLOCK_ROWS:
            self._put_away()

    def _put_away(self) -> None:
        """Write the rows that wait."""
        if not self.waiting:
            return
        self.index.append(np.concatenate([np.asarray(rows.index, dtype=object) for rows in self.waiting]))
        for name, each in self.columns.items():
            parts = [rows.columns[name] for rows in self.waiting]
            if isinstance(each, Categories):
                each.extend(parts)
            else:
                each.append(concatenated(parts))
        self.waiting, self.rows = [], 0

    def finish(self) -> None:
        """Write what waited."""
        self._put_away()
        for each in (self.index, *self.columns.values()):
            each.finish()

    @property
    def marks(self) -> dict[str, int]:
        """The marks of the columns of text, by their names in the file."""
        return {name: mark for each in (self.index, *self.columns.values()) for name, mark in each.marks.items()}

    @property
    def used(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Of each categorical column, which of its categories are in use, or kept because they are ordered."""
        return {name: each.used[:-1] for name, each in self.columns.items() if isinstance(each, Categories)}

    def close(self) -> None:
        """Let go of temporary files."""
        for each in self.columns.values():
            each.close()


def index_name(table: pd.DataFrame) -> str:
    """Return what the index is called in the file: "_index" if it has no name, or one that a column has."""
    name = table.index.name
    return "_index" if name is None or str(name) in table.columns else str(name)

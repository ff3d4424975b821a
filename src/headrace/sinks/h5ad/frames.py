"""Data frames in anndata's encoding, written in blocks of rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from .digests import text_checksum
from .hdf5 import Appender, Storage

SPILL_ROWS = 1 << 18

BLOCK_ROWS = 1 << 15
"""Rows that are put away at once: a call for each column of each chunk would cost more than writing X."""


class FrameWriter:
    """A dataframe in the making.

    Categories are known only at the end (those in use are kept), so codes wait in an unnamed
    temporary file beside the output; everything else goes straight into HDF5.

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
        self.group, self.most, self.storage = group, most, storage
        index = str(empty.index.name or "_index")
        if index in empty.columns:
            index = "_index"
        attributes: dict[str, Any] = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": index}
        names = [str(name) for name in empty.columns]
        attributes["column-order"] = np.array(names, dtype=h5py.string_dtype())
        group.attrs.update(attributes)
        self.waiting: list[pd.DataFrame] = []
        self.rows = 0
        self.index = _Strings(group, index, most)
        self.columns = {name: self._column(name, empty[name].dtype, folder) for name in names}

    def _column(self, name: str, dtype: Any, folder: Path) -> _Strings | _Numbers | _Nullable | _Categories:
        if isinstance(dtype, pd.CategoricalDtype):
            return _Categories(self.group, name, dtype, folder, self.most, self.storage)
        if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
            return _Numbers(self.group, name, dtype, self.most, self.storage)
        if isinstance(dtype, pd.api.extensions.ExtensionDtype) and dtype.kind in "biu":
            return _Nullable(self.group, name, dtype, self.most, self.storage)
        return _Strings(self.group, name, self.most)

    def append(self, frame: pd.DataFrame) -> None:
        """Add rows."""
        self.waiting.append(frame)
        self.rows += len(frame)
        if self.rows >= BLOCK_ROWS:
            self._put_away()

    def _put_away(self) -> None:
        """Write the rows that wait."""
        if not self.waiting:
            return
        frame = self.waiting[0] if len(self.waiting) == 1 else pd.concat(self.waiting)
        self.index.append(frame.index)
        for name, column in self.columns.items():
            column.append(frame[name])
        self.waiting, self.rows = [], 0

    def finish(self) -> None:
        """Write what waited."""
        self._put_away()
        for column in (self.index, *self.columns.values()):
            column.finish()

    @property
    def marks(self) -> dict[str, int]:
        """The marks of the columns of text, by their names in the file."""
        texts = (each for each in (self.index, *self.columns.values()) if isinstance(each, _Strings))
        return {text.dataset.name.lstrip("/"): text.mark for text in texts}

    def close(self) -> None:
        """Let go of temporary files."""
        for column in self.columns.values():
            if isinstance(column, _Categories):
                with suppress(OSError):  # it may still want to write, to a disk that is full
                    column.spill.close()


class _Numbers:
    """A numeric or boolean column."""

    def __init__(self, group: h5py.Group, name: str, dtype: np.dtype[Any], most: int, storage: Storage) -> None:
        self.dtype = dtype
        stored = np.dtype(bool) if dtype.kind == "b" else dtype
        self.out = Appender(group, name, stored, storage, most=most)
        self.out.dataset.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    def append(self, values: pd.Series) -> None:
        self.out.append(values.to_numpy(self.dtype))

    def finish(self) -> None:
        self.out.finish()


class _Nullable:
    """A column of whole numbers or booleans, some missing."""

    def __init__(self, group: h5py.Group, name: str, dtype: Any, most: int, storage: Storage) -> None:
        inner = group.create_group(name)
        kind = "nullable-boolean" if dtype.kind == "b" else "nullable-integer"
        inner.attrs.update({"encoding-type": kind, "encoding-version": "0.1.0"})
        self.values = _Numbers(inner, "values", dtype.numpy_dtype, most, storage)
        self.mask = _Numbers(inner, "mask", np.dtype(bool), most, storage)

    def append(self, values: pd.Series) -> None:
        missing = values.isna()
        self.values.append(values.fillna(False if self.values.dtype.kind == "b" else 0))
        self.mask.append(missing)

    def finish(self) -> None:
        self.values.finish()
        self.mask.finish()


class _Strings:
    """A column of text, or the index."""

    def __init__(self, group: h5py.Group, name: str, most: int) -> None:
        chunk = max(1, min(1 << 15, most))
        self.dataset = group.create_dataset(
            name, shape=(0,), maxshape=(None,), dtype=h5py.string_dtype(), chunks=(chunk,)
        )
        self.dataset.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        self.mark = 0

    def append(self, values: Any) -> None:
        if len(values):
            text = np.asarray(values, dtype=object)
            if pd.api.types.infer_dtype(text, skipna=False) != "string":
                text = np.array(["" if pd.isna(value) else str(value) for value in text], dtype=object)
            self.dataset.resize(len(self.dataset) + len(text), axis=0)
            self.dataset[-len(text) :] = text
            self.mark = text_checksum(text, self.mark)

    def finish(self) -> None:
        """Nothing waits."""


class _Categories:
    """A categorical column; at the end, only the categories in use are left."""

    def __init__(
        self, group: h5py.Group, name: str, dtype: pd.CategoricalDtype, folder: Path, most: int, storage: Storage
    ) -> None:
        self.group, self.name, self.dtype, self.most, self.storage = group, name, dtype, most, storage
        self.spill = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 # lives as long as the writer
        self.used = np.zeros(len(dtype.categories) + 1, dtype=bool)  # the last is "no value", code -1

    def append(self, values: pd.Series) -> None:
        codes = values.cat.codes.to_numpy(np.int32)
        self.used[np.unique(codes)] = True
        self.spill.write(codes.tobytes())

    def finish(self) -> None:
        kept = np.flatnonzero(self.used[:-1])
        categories = self.dtype.categories[kept]
        renumber = np.full(len(self.used), -1, dtype=np.int32)
        renumber[kept] = np.arange(len(kept))
        narrow = np.min_scalar_type(-max(1, len(kept)))
        group = self.group.create_group(self.name)
        group.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0"})
        group.attrs["ordered"] = bool(self.dtype.ordered)
        if categories.dtype.kind in "biuf":
            out = _Numbers(group, "categories", categories.dtype, len(categories), self.storage)
            out.append(pd.Series(categories))
            out.finish()
        else:
            _Strings(group, "categories", len(categories)).append(categories)
        codes = Appender(group, "codes", narrow, self.storage, most=self.most)
        codes.dataset.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for part in self._codes():
            codes.append(renumber[part].astype(narrow))
        codes.finish()
        self.spill.close()

    def _codes(self) -> Iterator[npt.NDArray[np.int32]]:
        self.spill.seek(0)
        while block := self.spill.read(SPILL_ROWS * 4):
            yield np.frombuffer(block, dtype=np.int32)

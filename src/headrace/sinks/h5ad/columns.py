"""Columns of a table in anndata's encodings, written as rows come.

A column of whole numbers, booleans or text becomes nullable if a value is missing, and only then, unless the stream
says that it is: values are stored as they come, and the mask beside them is made when it is known to be needed.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import InputError
from ...support.columns import floats, is_masked
from .hdf5 import Appender, Storage

SPILL_ROWS = 1 << 18

ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
TEXT = {"encoding-type": "string-array", "encoding-version": "0.2.0"}


class Column(Protocol):
    """One column in the making."""

    def append(self, values: Any) -> None:
        """Add rows."""

    def finish(self) -> None:
        """Write what waits."""

    def close(self) -> None:
        """Let go of temporary files."""

    @property
    def marks(self) -> dict[str, int]:
        """The marks of the texts in it, by their names in the file."""


def column(group: h5py.Group, name: str, dtype: Any, folder: Path, most: int, storage: Storage) -> Column:
    """Begin a column of a type that `check.check_frame` lets through."""
    if isinstance(dtype, pd.CategoricalDtype):
        return Categories(group, name, dtype, folder, most, storage)
    if is_masked(dtype):
        return Numbers(group, name, dtype.numpy_dtype, Mask(group, name, folder, most, storage, always=True))
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return Numbers(group, name, dtype, Mask(group, name, folder, most, storage))
    always = isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA
    return Text(group, name, most, Mask(group, name, folder, most, storage, always))


class Mask:
    """Which values of a column are missing. Nothing is kept before the first one is.

    Parameters
    ----------
    group, name
        The column.
    folder
        Where a temporary file may be.
    most
        The most rows that can come.
    always
        Whether the column is nullable even if no value is missing.
    """

    def __init__(
        self, group: h5py.Group, name: str, folder: Path, most: int, storage: Storage, always: bool = False
    ) -> None:
        self.group, self.name, self.folder, self.most, self.storage = group, name, folder, most, storage
        self.rows = 0
        self.spill: IO[bytes] | None = None
        if always:
            self._begin()

    def append(self, missing: npt.NDArray[np.bool_] | int) -> None:
        """Add rows: which of them are missing, or how many they are if none is."""
        if self.spill is None and not isinstance(missing, int) and missing.any():
            self._begin()
        n = missing if isinstance(missing, int) else len(missing)
        if self.spill is not None:
            self.spill.write(bytes(n) if isinstance(missing, int) else missing.tobytes())
        self.rows += n

    def finish(self, kind: str) -> str:
        """Make a nullable column of a finished one if a value is missing; return where its values are."""
        if self.spill is None:
            return self.name
        waiting = self.name + " "
        while waiting in self.group:
            waiting += " "
        self.group.move(self.name, waiting)
        inner = self.group.create_group(self.name)
        inner.attrs.update({"encoding-type": f"nullable-{kind}", "encoding-version": "0.1.0"})
        self.group.move(waiting, f"{self.name}/values")
        mask = Appender(inner, "mask", np.dtype(bool), self.storage, most=self.most)
        mask.dataset.attrs.update(ARRAY)
        self.spill.seek(0)
        while block := self.spill.read(SPILL_ROWS):
            mask.append(np.frombuffer(block, dtype=bool))
        mask.finish()
        self.close()
        return f"{self.name}/values"

    def close(self) -> None:
        """Let go of the temporary file."""
        if self.spill is not None:
            with suppress(OSError):  # it may still want to write, to a disk that is full
                self.spill.close()

    def _begin(self) -> None:
        self.spill = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 # lives as long as the writer
        for start in range(0, self.rows, SPILL_ROWS):
            self.spill.write(bytes(min(SPILL_ROWS, self.rows - start)))


class Numbers:
    """A column of numbers or booleans. Missing floats are NaN."""

    def __init__(self, group: h5py.Group, name: str, dtype: np.dtype[Any], mask: Mask) -> None:
        self.name, self.dtype, self.mask = name, dtype, mask
        stored = np.dtype(bool) if dtype.kind == "b" else dtype
        self.out = Appender(group, name, stored, mask.storage, most=mask.most)
        self.out.dataset.attrs.update(ARRAY)

    def append(self, values: pd.Series) -> None:
        """Add rows."""
        if values.dtype == self.dtype:
            self.mask.append(len(values))
            self.out.append(values.to_numpy())
        elif self.dtype.kind == "f":
            self.mask.append(len(values))
            self.out.append(floats(values).astype(self.dtype))
        else:
            missing = values.isna().to_numpy(bool)
            there = values[~missing].to_numpy(self.dtype)
            if not (there == values[~missing].to_numpy()).all():
                raise InputError(f"column {self.name!r} is to hold {self.dtype}, but holds {values.dtype}")
            numbers = np.zeros(len(values), dtype=self.dtype)
            numbers[~missing] = there
            self.mask.append(missing)
            self.out.append(numbers)

    def finish(self) -> None:
        """Write what is left."""
        self.out.finish()
        self.mask.finish("boolean" if self.dtype.kind == "b" else "integer")

    def close(self) -> None:
        """Let go of temporary files."""
        self.mask.close()

    @property
    def marks(self) -> dict[str, int]:
        """There is no text in it."""
        return {}


class Text:
    """A column of text, or the index, in which nothing is missing and everything has a text."""

    def __init__(self, group: h5py.Group, name: str, most: int, mask: Mask | None) -> None:
        self.name, self.mask = name, mask
        self.path = f"{group.name}/{name}".strip("/")
        chunk = max(1, min(1 << 15, most))
        self.dataset = group.create_dataset(
            name, shape=(0,), maxshape=(None,), dtype=h5py.string_dtype(), chunks=(chunk,)
        )
        self.dataset.attrs.update(TEXT)
        self.mark = 0

    def append(self, values: Any) -> None:
        """Add rows."""
        if not len(values):
            return
        text = np.asarray(values, dtype=object)
        missing: Any = len(text)
        if pd.api.types.infer_dtype(text, skipna=False) != "string":
            text, missing = self._told(text)
        joined = "\0".join([*text, ""])
        if joined.count("\0") != len(text):
            bad = next(value for value in text if "\0" in value)
            raise InputError(f"{self.path}: {bad!r} has a NUL (\\0) in it, which HDF5 cannot hold; replace it")
        try:
            self.mark = zlib.crc32(joined.encode(), self.mark)
        except UnicodeEncodeError as error:
            raise InputError(f"{self.path}: a text is no Unicode ({error}); replace it") from error
        if self.mask is not None:
            self.mask.append(missing)
        self.dataset.resize(len(self.dataset) + len(text), axis=0)
        self.dataset[-len(text) :] = text

    def _told(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Any]:
        """Return the texts, and which are missing."""
        missing = np.asarray(pd.isna(values), dtype=bool)
        if self.mask is None:
            if missing.any():
                raise InputError(f"{self.path}: row {int(missing.argmax())} has no name; give it one")
            return np.array([str(value) for value in values], dtype=object), 0
        for at in np.flatnonzero(~missing):
            if not isinstance(values[at], str):
                raise InputError(
                    f"{self.path} holds {values[at]!r} ({type(values[at]).__name__}): a column of an .h5ad is text, or "
                    "numbers, or booleans, and never a mixture; make it one (e.g. .astype(str)), or drop it"
                )
        text = values.copy()
        text[missing] = ""
        return text, missing

    def finish(self) -> None:
        """Set the mask beside the values, if there is one."""
        if self.mask is not None:
            self.path = self.path.removesuffix(self.name) + self.mask.finish("string-array")

    def close(self) -> None:
        """Let go of temporary files."""
        if self.mask is not None:
            self.mask.close()

    @property
    def marks(self) -> dict[str, int]:
        """The mark of the text, by where it is."""
        return {self.path: self.mark}


class Categories:
    """A categorical column.

    At the end, only the categories in use are left; all of them if they are ordered, as the levels of a scale are part
    of what it says. Which are in use is known only then, so codes wait in an unnamed temporary file.
    """

    def __init__(
        self, group: h5py.Group, name: str, dtype: pd.CategoricalDtype, folder: Path, most: int, storage: Storage
    ) -> None:
        self.group, self.name, self.dtype, self.folder, self.most = group, name, dtype, folder, most
        self.storage = storage
        self.spill = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 # lives as long as the writer
        self.used = np.zeros(len(dtype.categories) + 1, dtype=bool)  # the last is "no value", code -1
        self.used[:-1] = bool(dtype.ordered)
        self.marks: dict[str, int] = {}

    def append(self, values: pd.Series) -> None:
        """Add rows."""
        self.extend([values.array])

    def extend(self, parts: Sequence[Any]) -> None:
        """Add rows that came in parts: pandas would compare all categories of all parts to join them."""
        codes = np.concatenate([self._codes_of(part) for part in parts])
        self.used[codes] = True
        self.spill.write(codes.tobytes())

    def finish(self) -> None:
        """Write categories and codes."""
        kept, renumber = np.flatnonzero(self.used[:-1]), np.full(len(self.used), -1, dtype=np.int32)
        categories = self.dtype.categories[kept]
        renumber[kept] = np.arange(len(kept))
        narrow = np.min_scalar_type(-max(1, len(kept)))
        group, ordered = self.group.create_group(self.name), bool(self.dtype.ordered)
        group.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": ordered})
        values = column(group, "categories", categories.dtype, self.folder, len(categories), self.storage)
        values.append(pd.Series(categories))
        values.finish()
        self.marks = values.marks
        codes = Appender(group, "codes", narrow, self.storage, most=self.most)
        codes.dataset.attrs.update(ARRAY)
        for part in self._codes():
            codes.append(renumber[part].astype(narrow))
        codes.finish()
        self.close()

    def close(self) -> None:
        """Let go of the temporary file."""
        with suppress(OSError):  # it may still want to write, to a disk that is full
            self.spill.close()

    def _codes_of(self, part: Any) -> npt.NDArray[np.int32]:
        """Return codes of this column's categories, whatever order a step of one's own has given them in a chunk."""
        if not isinstance(part.dtype, pd.CategoricalDtype):
            raise InputError(f"column {self.name!r} is to be categorical, but is {part.dtype} in some cells")
        own, theirs, codes = self.dtype.categories, part.dtype.categories, part.codes
        if theirs is not own and not theirs.equals(own):
            place = own.get_indexer(theirs)
            if (place[np.unique(codes[codes >= 0])] < 0).any():
                raise InputError(f"column {self.name!r} has other categories in some cells than its dtype says")
            codes = np.append(place, -1)[codes]
        return np.asarray(codes, dtype=np.int32)

    def _codes(self) -> Iterator[npt.NDArray[np.int32]]:
        self.spill.seek(0)
        while block := self.spill.read(SPILL_ROWS * 4):
            yield np.frombuffer(block, dtype=np.int32)

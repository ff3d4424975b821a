"""obs and var of an .h5ad file, as anndata 0.7 to 0.13 writes them, read some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import h5py
import numpy as np
import pandas as pd

from ...errors import InputError, SourceError
from .attributes import attribute, text
from .blocks import Blocks
from .file import member, members, reading
from .rows import Rows
from .sizes import TEXT_COPIES, Texts, check_held, texts_of

BLOCK = 65536
"""Rows per block."""

STRING_BYTES = 90
"""What a short text takes in memory, with its place in the column."""


@dataclass(frozen=True)
class Column:
    """One column, or the index.

    Parameters
    ----------
    length
        Its rows.
    read
        Returns the rows between two positions, as what a DataFrame takes for a column.
    row_bytes
        What a row takes in memory.
    held
        Bytes of its categories.
    padded
        Whether it is text of fixed length, which may have a NUL in it.
    texts
        Returns how long its texts are, if it is text.
    """

    length: int
    read: Callable[[int, int], Any]
    row_bytes: int
    held: int = 0
    padded: bool = False
    texts: Callable[[], Texts] | None = None

    def check_held(self, what: str) -> None:
        """Raise `MemoryBudgetError` if all its rows do not fit in memory."""
        check_held(self.length * self.row_bytes, what)
        if self.texts is not None:
            check_held(TEXT_COPIES * self.texts().total, f"{what}, {self.texts().total / 1e6:,.0f} MB of text")


class Table:
    """A dataframe in a file.

    Parameters
    ----------
    root
        The file.
    path
        Where the dataframe is in it.
    """

    def __init__(self, root: h5py.File, path: str) -> None:
        self.where = f"{path} of {root.file.filename}"
        group = member(root, path)
        if group is None:
            raise SourceError(f"{root.file.filename} has no {path}: it is no .h5ad file")
        if isinstance(group, h5py.Dataset):
            raise SourceError(
                f"{self.where} is in the form that anndata had before 0.7 (2019); write the file again with anndata: "
                "anndata.read_h5ad(path).write_h5ad(new_path)"
            )
        self.group = group
        self.levels = 0  # bytes of the categories that are held so far
        name = text(attribute(group, "_index", "_index"))
        self.index_name = None if name == "_index" else name  # as anndata reads it
        self.index = self._column(name, "the index")
        self.length = self.index.length
        names = attribute(group, "column-order")
        if names is None:
            names = [key for key in members(group) if key not in (name, "__categories")]
        self.columns = {text(key): self._column(text(key), f"column {text(key)!r}") for key in np.atleast_1d(names)}
        for key, column in self.columns.items():
            if column.length != self.length:
                raise SourceError(f"{self.where}: column {key!r} has {column.length} rows, the index {self.length}")
        self.blocks: Blocks[pd.DataFrame] = Blocks(self.length, BLOCK)

    @property
    def memory(self) -> int:
        """Bytes of the blocks that are kept, and of categories."""
        row = self.index.row_bytes + sum(column.row_bytes for column in self.columns.values())
        return 3 * min(self.length, BLOCK) * row + sum(column.held for column in self.columns.values()) + self._long[0]

    @property
    def why(self) -> str:
        """Which column has long texts, if that is what takes most of the memory."""
        return self._long[1]

    @cached_property
    def _long(self) -> tuple[int, str]:
        """Bytes that long texts take beyond what a row usually takes, and which column has most of them."""
        usual = STRING_BYTES * min(self.length, BLOCK)
        with reading(self.where):
            every = {"the index": self.index, **self.columns}
            found = {key: column.texts().block for key, column in every.items() if column.texts is not None}
        more = {key: TEXT_COPIES * (n - usual) for key, n in found.items() if n > usual}
        if not more:
            return 0, ""
        most = max(more, key=lambda key: more[key])
        return sum(more.values()), f"{most!r} of {self.where} has {found[most] / 1e6:,.0f} MB of text for as many rows"

    def empty(self) -> pd.DataFrame:
        """Return no rows: names and dtypes, with all categories."""
        return self._load(0, 0)

    def all(self) -> pd.DataFrame:
        """Return all rows."""
        row = self.index.row_bytes + sum(column.row_bytes for column in self.columns.values())
        check_held(self.length * row, f"{self.where} has {self.length:,} rows")
        for key, column in {"the index": self.index, **self.columns}.items():
            column.check_held(f"{key!r} of {self.where} has {self.length:,} rows")
        return self._load(0, self.length)

    def read(self, start: int, stop: int) -> pd.DataFrame:
        """Return the rows between two positions."""
        parts = [rows.iloc[a:b] for rows, a, b in self.blocks.parts(start, stop, self._load)]
        return parts[0] if len(parts) == 1 else pd.concat(parts)

    def check_texts(self) -> None:
        """Raise `InputError` if a text has a NUL, which no .h5ad of today holds: only one of fixed length may."""
        for key, column in {"the index": self.index, **self.columns}.items():
            longest = column.texts().longest if column.padded and column.texts is not None else 0
            step = max(1, min(BLOCK, (8 << 20) // max(1, longest)))
            for start in range(0, column.length if column.padded else 0, step):
                with reading(self.where):
                    texts = column.read(start, min(start + step, column.length))
                wrong = next((text for text in texts if "\0" in text), None)
                if wrong is not None:
                    raise InputError(f"{self.where}: {key!r} has {wrong!r}, with a NUL (\\0) in it; replace it")

    def batches(self, keys: Sequence[str]) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield some columns of all rows, a block at a time, with the number of its first row."""
        for start in range(0, self.length, BLOCK):
            stop = min(start + BLOCK, self.length)
            with reading(self.where):
                yield (
                    start,
                    pd.DataFrame({key: self.columns[key].read(start, stop) for key in keys}, range(stop - start)),
                )

    def value_counts(self, key: str) -> dict[str, int]:
        """Count the rows of each value of a column, most first; none if there is no such column."""
        if key not in self.columns:
            return {}
        total = pd.Series(dtype=np.int64)
        for start in range(0, self.length, BLOCK):
            with reading(self.where):
                values = pd.Series(self.columns[key].read(start, min(start + BLOCK, self.length)))
            found = values.value_counts()
            found.index = found.index.astype(object)
            total = total.add(found, fill_value=0)
        return {str(value): int(n) for value, n in total[total > 0].sort_values(ascending=False, kind="stable").items()}

    def name(self, row: int) -> str:
        """Return the name of a row."""
        return str(self.index.read(row, row + 1)[0])

    def _load(self, start: int, stop: int) -> pd.DataFrame:
        with reading(f"{self.where}, rows {start} to {stop}"):
            names = np.asarray(self.index.read(start, stop))
            if names.dtype != object:
                names = names.astype(str).astype(object)
            if pd.isna(names).any():
                raise SourceError(f"{self.where}: the index has no name for row {start + pd.isna(names).argmax()}")
            index = pd.Index(names, dtype=object, name=self.index_name)
            return pd.DataFrame({key: column.read(start, stop) for key, column in self.columns.items()}, index=index)

    # ------------------------------------------------------------------------------------------------- encodings
    def _column(self, key: str, what: str) -> Column:
        element = member(self.group, key)
        where = f"{what} of {self.where}"
        if element is None:
            raise SourceError(f"{where} is not there")
        encoding = text(attribute(element, "encoding-type", ""))
        if isinstance(element, h5py.Dataset):
            column = self._plain(element, where)
            old = attribute(element, "categories")
            return column if old is None else self._categorical(column, self._categories(old, where), where)
        if encoding == "categorical":
            codes = self._plain(member(element, "codes"), f"{what}/codes of {self.where}")  # they may be a circle
            return self._categorical(codes, self._values(member(element, "categories"), where, element), where)
        if encoding.startswith("nullable-"):
            return self._nullable(element, encoding, where)
        raise SourceError(f"{where} is encoded as {encoding or 'a group'!r}, which headrace does not read; drop it")

    def _plain(self, dataset: Any, where: str) -> Column:
        """Return a column of numbers, booleans or text."""
        if not isinstance(dataset, h5py.Dataset):
            found = "not there" if dataset is None else "a group where values should be"
            raise SourceError(f"{where} is {found}; the file is broken")
        rows = Rows(dataset)
        if dataset.ndim != 1:
            raise SourceError(f"{where} has {dataset.ndim} dimensions, not one; drop it, or move it to obsm or varm")
        if h5py.check_string_dtype(dataset.dtype) is not None:
            texts = dataset.asstr()
            padded = h5py.check_string_dtype(dataset.dtype).length is not None

            @cache
            def sizes() -> Texts:
                with reading(where):
                    return texts_of(dataset, BLOCK, where)

            def read(start: int, stop: int) -> Any:
                sizes()  # looks at what HDF5 would take as it is
                return np.asarray(texts[start:stop], dtype=object)

            return Column(len(dataset), read, STRING_BYTES, padded=padded, texts=sizes)
        if dataset.dtype.kind not in "biuf":
            raise SourceError(f"{where} holds {dataset.dtype}, which headrace does not read; drop it")
        dtype = dataset.dtype.newbyteorder("=")
        plain = np.dtype(dtype.str)  # without the names that HDF5 gives to booleans
        return Column(len(dataset), lambda start, stop: rows.read(start, stop).astype(plain), dtype.itemsize)

    def _categories(self, reference: Any, where: str) -> tuple[Any, bool]:
        """Return the categories that a column of anndata 0.7 refers to."""
        with reading(where):
            found = self.group.file[reference]
        return self._values(found, where, found)

    def _values(self, found: Any, where: str, about: Any) -> tuple[Any, bool]:
        """Return categories, and whether they are ordered."""
        if found is None:
            raise SourceError(f"{where} has no categories")
        if isinstance(found, h5py.Group):
            column = self._nullable(found, text(attribute(found, "encoding-type", "")), where)
        else:
            column = self._plain(found, where)
        texts = 0 if column.texts is None else column.texts().total
        what = f"{where} has {column.length:,} categories" + (f", {texts / 1e6:,.0f} MB of text" if texts else "")
        before = f"; those of other columns take {self.levels / 1e6:,.0f} MB" if self.levels else ""
        check_held(self.levels + column.length * column.row_bytes + TEXT_COPIES * texts, what + before)
        self.levels += column.length * column.row_bytes + texts
        with reading(where):
            values = column.read(0, column.length)
        if isinstance(values, pd.api.extensions.ExtensionArray):
            values = values.to_numpy()
        try:
            index = pd.Index(values, dtype=values.dtype)
        except NotImplementedError as error:  # of float16, which no pandas that wrote them can have meant
            raise SourceError(f"{where} has categories of {values.dtype}: {error}; drop it") from error
        return index, bool(np.all(attribute(about, "ordered", False)))

    def _categorical(self, codes: Column, categories: tuple[Any, bool], where: str) -> Column:
        values, ordered = categories
        try:
            dtype = pd.CategoricalDtype(values, ordered)
        except ValueError as error:
            raise SourceError(f"{where}: {error}") from error

        def read(start: int, stop: int) -> Any:
            found = codes.read(start, stop)
            if len(found) and (found.max() >= len(values) or found.min() < -1):
                raise SourceError(f"{where} has code {found.max()}, but {len(values)} categories")
            return pd.Categorical.from_codes(found, dtype=dtype)

        held = STRING_BYTES * len(values) + sum(len(value) for value in values if isinstance(value, str))
        return Column(codes.length, read, codes.row_bytes, held)

    def _nullable(self, group: h5py.Group, encoding: str, where: str) -> Column:
        """Return a column of values, some of which are missing."""
        values, mask = member(group, "values"), member(group, "mask")
        if values is None or mask is None:
            raise SourceError(f"{where} ({encoding}) has no values and mask")
        there, missing = self._plain(values, where), self._plain(mask, where)
        if there.length != missing.length:
            raise SourceError(f"{where} has {there.length} values, but a mask of {missing.length}")

        def read(start: int, stop: int) -> Any:
            found, gone = there.read(start, stop), missing.read(start, stop).astype(bool)
            if encoding == "nullable-integer":
                return pd.arrays.IntegerArray(found, gone)
            if encoding == "nullable-boolean":
                return pd.arrays.BooleanArray(found.astype(bool), gone)
            texts = pd.array(found, dtype=pd.StringDtype("python"))
            texts[gone] = pd.NA
            return texts

        if encoding not in ("nullable-integer", "nullable-boolean", "nullable-string-array"):
            raise SourceError(f"{where} is encoded as {encoding!r}, which headrace does not read; drop it")
        return Column(there.length, read, there.row_bytes + 1)

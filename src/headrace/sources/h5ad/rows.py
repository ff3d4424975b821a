"""Rows of a dataset of numbers, unpacked here if they are packed: each piece is looked at when it is read, and once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import h5py
import numpy.typing as npt

from .file import Stored, check_storage, locate
from .filters import PACKING
from .preads import Disk, Reader, threads
from .sizes import has_descriptors

MOST_KEPT = 8 << 20
"""Bytes of pieces that were read in part and are kept for the next rows: what HDF5 keeps of a dataset."""


class Rows:
    """Reads rows of a dataset. Safe to use from several threads.

    Parameters
    ----------
    dataset
        Of any number of dimensions; refused if it cannot be read from its file alone. If it holds texts, their lengths
        are to be asked for (`sizes.texts_of`) before HDF5 reads them.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset = dataset
        self.stored: Stored | None = None
        self.lock = threading.Lock()
        self.kept: dict[int, npt.NDArray[Any]] = {}
        numbers = dataset.dtype.kind in "biuf" and dataset.dtype.itemsize <= 8
        filters = check_storage(dataset, unpacked=not numbers and not has_descriptors(dataset))
        if numbers and PACKING & set(filters):
            stored = locate(dataset)
            self.stored = None if stored.by_library else stored

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the rows between two positions, as numbers of the file's type; booleans may come as uint8."""
        if self.stored is None:
            values: npt.NDArray[Any] = self.dataset[start:stop]
            return values
        with self.lock, ThreadPoolExecutor(_threads(), thread_name_prefix="headrace-decode") as pool:
            reader = Reader(_Open(self.dataset.file), self.stored, pool)
            reader.kept = self.kept
            out = reader.read(start, min(stop, self.stored.shape[0]))
            self.kept = reader.kept if sum(values.nbytes for values in reader.kept.values()) <= MOST_KEPT else {}
        return out


@cache
def _threads() -> int:
    """Return how many threads decode, asked for once: blocks are small, and the system has many files to look into."""
    return threads()


class _Open(Disk):
    """The file of an open dataset, to be read past HDF5: not opened again, and not closed here."""

    def __init__(self, file: h5py.File) -> None:
        self.path, self.hdf5, self.fd = file.filename, file, int(file.id.get_vfd_handle())

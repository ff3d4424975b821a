"""Attributes of an HDF5 file: what says how its members are encoded."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5t

from ...errors import SourceError
from .file import Place, reading
from .sizes import check_held, check_names

NEVER = (h5t.TypeVlenID, h5t.TypeCompoundID, h5t.TypeOpaqueID, h5t.TypeArrayID)
"""Types of which no attribute is that is read here."""

FEW_BYTES = 1 << 20
"""Of an attribute: it is read without asking what there is of memory."""


def attribute(element: h5py.Group | h5py.Dataset, name: str, default: Any = None) -> Any:
    """Return an attribute of a group or dataset, or `default` if there is none.

    Raises
    ------
    MemoryBudgetError
        If it does not fit in memory.
    SourceError
        If it has a text that is far longer than any name.
    """
    raw, where = name.encode(), Place(element, before=f"{name!r} of ")
    with reading(where):
        if not h5a.exists(element.id, raw):
            return default
        found = h5a.open(element.id, raw)
        if isinstance(found.get_type(), NEVER):  # of a damaged file HDF5 may crash over these
            raise SourceError(f"{where} holds neither text nor numbers; the file may be damaged, so copy it again")
        _check_descriptors(element, found, where)
        stored = int(np.prod(found.shape, dtype=object)) * found.get_type().get_size()
        if stored > FEW_BYTES:
            check_held(4 * stored, f"{where} has {stored / 1e6:,.0f} MB")
        value = _one_text(found) if found.shape == () else None
        if value is None:
            value = element.attrs[name]
    check_names(value, where)
    return value


def _check_descriptors(element: h5py.Group | h5py.Dataset, found: h5a.AttrID, where: Place) -> None:
    """Raise if texts are said to take another number of bytes than where they are in a heap: HDF5 reads beyond them."""
    kind, n = found.get_type(), int(np.prod(found.shape, dtype=object))
    if n and isinstance(kind, h5t.TypeStringID) and kind.is_variable_str():
        each = 8 + element.file.id.get_create_plist().get_sizes()[0]  # a length, an address, a number
        if found.get_storage_size() != each * n:
            raise SourceError(f"{where} has texts whose type is broken; the file is damaged, so copy it again")


def _one_text(found: h5a.AttrID) -> str | None:
    """Return an attribute that is one text of variable length, as h5py reads it in twice the time; None: it is none."""
    kind = found.get_type()
    if not isinstance(kind, h5t.TypeStringID) or not kind.is_variable_str():
        return None
    value = np.empty((), dtype=found.dtype)
    found.read(value)
    return bytes(value[()]).decode("utf-8", "surrogateescape")


def text(value: Any) -> str:
    """Return the text of an attribute: of variable or of fixed length, alone or in an array of one."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode().rstrip("\0") if isinstance(value, bytes) else str(value)

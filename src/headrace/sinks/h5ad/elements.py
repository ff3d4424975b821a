"""Entries of `uns`, and `raw`, in anndata's encoding.

What is plain is written here: to import anndata takes longer than to write a small file. All else is left to it.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from ...errors import OutputError

LIBVER = ("v108", "latest")
"""The versions of HDF5 that a file is for: readers that know no other (pyfive, jsfive, HDF5 1.8) open it."""

HEADER = 1 << 16
"""Bytes of a message in the header of a dataset, less one."""

MOST_OF_A_COLUMN = 64
"""Bytes that a column takes there beside its name: text of any length takes 41."""


def write_element(group: h5py.Group, key: str, value: Any) -> None:
    """Write a value: dictionaries, text, numbers, arrays of numbers and tables here, anything else by anndata.

    Parameters
    ----------
    group
        Where it goes.
    key
        Its name.
    value
        Anything that anndata can write.
    """
    if value is None:
        return  # as files had it before anndata 0.12, whose mark for nothing older versions cannot read
    if isinstance(value, dict) and all(isinstance(name, str) and "/" not in name for name in value):
        inner = group.create_group(key)
        _encode(inner, "dict", "0.1.0")
        for name, each in value.items():
            write_element(inner, name, each)
    elif isinstance(value, str):
        _encode(group.create_dataset(key, data=value, dtype=h5py.string_dtype()), "string", "0.2.0")
    elif isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        _encode(group.create_dataset(key, data=value), "numeric-scalar", "0.2.0")
    elif type(value) is np.ndarray and value.dtype.kind in "biuf" and value.ndim:
        _encode(group.create_dataset(key, data=value), "array", "0.2.0")
    elif isinstance(value, np.ndarray) and value.dtype.names:
        check_table(f"{group.name[1:]}/{key}", value)
        stored = group.create_dataset(key, data=value.astype(_stored_type(value.dtype)))
        _encode(stored, "rec-array", "0.2.0")
    else:
        from anndata.io import write_elem

        write_elem(group, key, value)


def check_table(what: str, table: np.ndarray[Any, Any]) -> None:
    """Raise `OutputError` if a structured array cannot be stored: its columns hold numbers and text."""
    remedy = "columns of tables are numbers or text; convert it, or leave the table out"
    try:
        h5py.h5t.py_create(np.dtype(_stored_type(table.dtype)), logical=True)
    except TypeError as error:
        raise OutputError(f"{what} is a table of {table.dtype}: {error}; {remedy}") from error
    for name in table.dtype.names or ():
        if table.dtype[name].kind == "O":
            other = next((value for value in table[name].ravel() if not isinstance(value, str)), "")
            if not isinstance(other, str):
                raise OutputError(f"{what} has {other!r} in column {name!r}: {remedy}")
    check_columns(what, table.dtype)


def check_columns(what: str, dtype: np.dtype[Any]) -> None:
    """Raise `OutputError` if a structured array has more, or longer, names of columns than HDF5 has room for.

    A type is described in the header of a dataset, by at most 64 kB whatever the version of the file.
    """
    names = dtype.names or ()
    if len(names) * MOST_OF_A_COLUMN + sum(len(name.encode()) for name in names) < HEADER or _fits(dtype, len(names)):
        return
    fit, too_many = 0, len(names)
    while too_many - fit > 1:
        middle = (fit + too_many) // 2
        fit, too_many = (middle, too_many) if _fits(dtype, middle) else (fit, middle)
    raise OutputError(
        f"{what} is a table of {len(names):,} columns, and HDF5 has room for the names of the first {fit:,} (64 kB, "
        "with anndata too); of RankGenesGroups take some at a time (groups=[...], each with its key_added=), shorten "
        "the names, or keep the tables in memory with to_anndata()"
    )


def _fits(dtype: np.dtype[Any], n: int) -> bool:
    """Return whether HDF5 can describe the first columns of a type, by trying it in memory."""
    fields = _stored_type(dtype)
    with h5py.File("columns", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        try:
            file.create_dataset("table", shape=(0,), dtype=np.dtype(fields[:n]))
        except ValueError:
            return False
    return True


def _stored_type(dtype: np.dtype[Any]) -> list[tuple[str, Any]]:
    """Return the columns of a structured array as they are stored: text is of any length."""
    return [(name, h5py.string_dtype() if dtype[name].kind in "OU" else dtype[name]) for name in dtype.names or ()]


def empty_dict(group: h5py.Group, name: str) -> None:
    """Make a dictionary without entries."""
    _encode(group.create_group(name), "dict", "0.1.0")


def link_raw(file: h5py.File, layer: str) -> None:
    """Make `raw` of a layer, given by its path, and of var, by hard links: nothing is written twice."""
    raw = file.create_group("raw")
    _encode(raw, "raw", "0.1.0")
    raw["X"], raw["var"] = file[layer], file["var"]
    empty_dict(raw, "varm")


def _encode(element: h5py.Group | h5py.Dataset, kind: str, version: str) -> None:
    element.attrs.update({"encoding-type": kind, "encoding-version": version})

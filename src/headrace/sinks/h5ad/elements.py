"""Entries of `uns`, and `raw`, in anndata's encoding.

What is plain is written here: to import anndata takes longer than to write a small file. All else is left to it.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np


def write_element(group: h5py.Group, key: str, value: Any) -> None:
    """Write a value: dictionaries, text, numbers and arrays of numbers here, anything else by anndata.

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
    else:
        from anndata.io import write_elem

        write_elem(group, key, value)


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

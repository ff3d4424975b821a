"""uns of an .h5ad file, and what of a file is not carried over."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from ...errors import SourceError
from .attributes import attribute
from .file import Place, check_storage, member, members, reading
from .sizes import TEXT_COPIES, check_held, texts_of

REPLACED = ("headrace", "log1p")
"""Entries that describe the file's own X, or how headrace made the file: a run writes its own."""

READ = (
    *("encoding-type", "encoding-version", "shape", "_index", "column-order", "ordered", "form", "length"),
    *("h5sparse_format", "h5sparse_shape"),
)
"""Attributes that anndata reads."""

Seen = set[tuple[int, int]]
"""Groups that were met: one may hold itself, or another many times over, by hard links."""


def read_uns(file: h5py.File) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the entries of `uns`, as anndata reads them, and those that are left out, with the reason.

    Raises
    ------
    SourceError
        If something in it leads to another file.
    """
    from anndata.io import read_elem  # slow to import, and only needed here

    group = member(file, "uns")
    kept: dict[str, Any] = {}
    left: dict[str, str] = {}
    total, seen = 0, Seen()
    for name in members(group):
        if name in REPLACED:
            continue
        element = _entry(group, name)
        total += _check_inside(element, seen)
        check_held(
            total, f"uns of {file.file.filename} has {name!r}", "leave out uns='keep', or look whether it is broken"
        )
        if member(element, "connectivities_key") is not None:
            left[name] = "it refers to obsp, which is not carried over"
            continue
        try:
            kept[name] = read_elem(element)
        except Exception as error:  # whatever anndata raises for what it does not know
            left[name] = f"anndata cannot read it: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return kept, left


def read_made(file: h5py.File) -> dict[str, Any]:
    """Return what a file says of how headrace made it, as plain values; and "log1p" if uns has that."""
    group = member(file, "uns/headrace")
    made = _plain(group, set()) if isinstance(group, h5py.Group) else {}
    logged = {"log1p": True} if member(file, "uns/log1p") is not None else {}
    return {**made, **logged} if isinstance(made, dict) else logged


def _plain(element: Any, seen: Seen) -> Any:
    """Return texts and numbers, and groups of them; None for anything else, what is outside the file, or met before."""
    if isinstance(element, h5py.Group):
        again = _again(element, seen)
        return None if again else {name: _plain(member(element, name), seen) for name in members(element)}
    if not isinstance(element, h5py.Dataset) or element.shape != () or element.dtype.kind not in "biufO":
        return None
    with reading(Place(element)):
        elsewhere = element.external or element.is_virtual
    if elsewhere:
        return None
    with reading(Place(element)):
        if h5py.check_string_dtype(element.dtype) is not None:
            texts_of(element, 1, Place(element))
        value = element[()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else np.asarray(value).item()


def _again(group: h5py.Group, seen: Seen) -> bool:
    """Return whether a group was met before, or lies too deep."""
    with reading(Place(group)):
        about = h5py.h5o.get_info(group.id)
    known = len(seen)
    seen.add((about.fileno, about.addr))
    return len(seen) == known or group.name.count("/") > 100


def _check_inside(element: h5py.Group | h5py.Dataset, seen: Seen) -> int:
    """Raise if an entry, or what is within, is not in this file; return the bytes that it takes in memory."""
    for name in READ:
        attribute(element, name)  # of a damaged file HDF5 may crash over one
    if isinstance(element, h5py.Dataset):
        check_storage(element)
        with reading(f"{element.name} of {element.file.filename}"):
            if h5py.check_string_dtype(element.dtype) is not None and element.ndim < 2:
                return TEXT_COPIES * texts_of(element, max(1, int(element.size or 0)), Place(element)).total
            return int(element.size or 0) * int(element.dtype.itemsize)
    if _again(element, seen):
        raise SourceError(f"{element.file.filename}: {element.name} is a group that is linked to more than once")
    total = 0
    for name in members(element):
        total += _check_inside(_entry(element, name), seen)
    return total


def _entry(group: h5py.Group, name: str) -> Any:
    """Return a member that a group lists; a damaged one may list what it does not have."""
    found = member(group, name)
    if found is None:
        raise SourceError(f"{group.name}/{name} of {group.file.filename} is not there; the file may be damaged")
    return found


def others(file: h5py.File, layer: str, uns: bool) -> dict[str, list[str]]:
    """Return the names of what no plan carries over: other matrices, pairs of cells or genes, and uns unless asked.

    Parameters
    ----------
    layer
        The matrix that is read, by its path in the file.
    uns
        Whether uns is carried over.
    """
    there = {name: members(member(file, name)) for name in ("layers", "obsp", "varp", *(() if uns else ("uns",)))}
    there["layers"] = [name for name in there["layers"] if layer != f"layers/{name}"]
    return {name: sorted(members) for name, members in there.items() if members}

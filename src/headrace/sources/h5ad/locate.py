"""Which matrices an .h5ad file has, and in which form."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np

from ...errors import InputError, SourceError
from .file import Stored, locate, member, reading, text
from .matrix import Csr, Dense, Matrix
from .preads import Disk
from .transposed import Csc
from .values import Names


def locate_matrix(disk: Disk, layer: str, shape: tuple[int, int], names: Names, scratch: str) -> Matrix:
    """Return a matrix of the file.

    Parameters
    ----------
    layer
        Its path in the file.
    shape
        What obs and var say that it has.
    scratch
        Folder for temporary files, if it needs one.
    """
    found = member(disk.hdf5, layer)
    if found is None:
        raise InputError(f"{disk.path} has no {layer}; it has {', '.join(matrices(disk.hdf5)) or 'no matrix at all'}")
    where = f"{layer} of {disk.path}"
    if isinstance(found, h5py.Dataset):
        if found.ndim != 2:
            raise SourceError(f"{where} has {found.ndim} dimensions, not 2")
        stored = locate(found)
        _agree(where, stored.shape, shape)
        return Dense(disk, stored, names)
    form = text(found.attrs.get("encoding-type", found.attrs.get("h5sparse_format", "")))
    form = {"csr_matrix": "csr", "csc_matrix": "csc"}.get(form, form)
    if form not in ("csr", "csc"):
        raise SourceError(f"{where} is encoded as {form or 'a group'!r}; headrace reads CSR, CSC and dense matrices")
    parts: dict[str, Stored] = {}
    for name in ("data", "indices", "indptr"):
        part = member(found, name)
        if not isinstance(part, h5py.Dataset) or part.ndim != 1:
            raise SourceError(f"{where} has no {name}; the file is broken")
        parts[name] = locate(part)
    _agree(where, tuple(int(n) for n in found.attrs.get("shape", found.attrs.get("h5sparse_shape", shape))), shape)
    with reading(f"{where}, indptr"):
        indptr = member(found, "indptr")[:].astype(np.int64)
    lines, what = (shape[0], names.cell) if form == "csr" else (shape[1], names.gene)
    data, indices = parts["data"], parts["indices"]
    if indices.dtype.kind not in "iu":
        raise SourceError(f"{where} has indices of type {indices.dtype}; the file is broken")
    if len(indptr) != lines + 1 or indptr[0] != 0:
        raise SourceError(f"{where}: indptr has {len(indptr)} entries, not {lines + 1}, or begins above 0; broken")
    back = indptr[1:] < indptr[:-1]
    if back.any():
        at = int(back.argmax())
        raise SourceError(f"{where}: indptr goes back at {what(at)!r}; the file is broken")
    if not indptr[-1] == data.shape[0] == indices.shape[0]:
        raise SourceError(
            f"{where}: indptr ends at {indptr[-1]}, but there are {data.shape[0]} values and {indices.shape[0]} "
            "indices; the file is broken"
        )
    if form == "csr":
        return Csr(disk, data, indices, indptr, shape[1], names)
    return Csc(disk, data, indices, indptr, shape[0], names, scratch)


def _agree(where: str, found: Sequence[int], shape: tuple[int, int]) -> None:
    if tuple(found) != shape:
        size = " x ".join(map(str, found))
        raise SourceError(f"{where} is {size}, but obs and var have {shape[0]} and {shape[1]} rows; the file is broken")


def matrices(file: h5py.File) -> list[str]:
    """Return what `layer=` and `raw=` can name, by their paths."""
    layers = member(file, "layers")
    names = [f"layers/{name}" for name in layers] if isinstance(layers, h5py.Group) else []
    return [name for name in ("X", "raw/X") if member(file, name) is not None] + names


def asked_as(path: str) -> str:
    """Return how a matrix is asked for."""
    return {"X": "the default", "raw/X": "raw=True"}.get(path, f"layer={path.removeprefix('layers/')!r}")

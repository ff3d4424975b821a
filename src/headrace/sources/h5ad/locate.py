"""Which matrices an .h5ad file has, and in which form."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
import numpy.typing as npt

from ...errors import InputError, SourceError, nearest
from ..foreign import H5AD, H5MU, HDF5, inside, said
from .attributes import attribute, text
from .file import Stored, locate, member, members, reading
from .matrix import Csr, Dense, Matrix
from .preads import Disk
from .sizes import check_held
from .transposed import Csc
from .values import Names


def locate_matrix(
    disk: Disk, root: h5py.Group, layer: str, shape: tuple[int, int], names: Names, scratch: str
) -> Matrix:
    """Return a matrix of the file.

    Parameters
    ----------
    root
        The file, or the modality in it.
    layer
        Its path there.
    shape
        What obs and var say that it has.
    scratch
        Folder for temporary files, if it needs one.
    """
    found = member(root, layer)
    if found is None:
        raise InputError(f"{disk.path} has no {layer}; it has {', '.join(matrices(root)) or 'no matrix at all'}")
    where = f"{layer} of {disk.path}"
    if isinstance(found, h5py.Dataset):
        if found.ndim != 2:
            raise SourceError(f"{where} has {found.ndim} dimensions, not 2")
        stored = locate(found)
        _agree(where, stored.shape, shape)
        check_held(
            2 * stored.band_bytes,
            f"{where} is stored in pieces, and all that have values of one cell are read together",
        )
        return Dense(disk, stored, names)
    form = text(attribute(found, "encoding-type", attribute(found, "h5sparse_format", "")))
    form = {"csr_matrix": "csr", "csc_matrix": "csc"}.get(form, form)
    if form not in ("csr", "csc"):
        raise SourceError(f"{where} is encoded as {form or 'a group'!r}; headrace reads CSR, CSC and dense matrices")
    data, indices, indptr = vectors(found, where, max(shape))
    written = np.asarray(attribute(found, "shape", attribute(found, "h5sparse_shape", shape)))
    if written.dtype.kind not in "iuf" or written.shape != (2,):
        raise SourceError(f"{where} says that its shape is {written.tolist()}; the file is broken")
    _agree(where, tuple(int(n) for n in written), shape)
    lines, what = (shape[0], names.cell) if form == "csr" else (shape[1], names.gene)
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


def vectors(group: h5py.Group, where: str, most: int) -> tuple[Stored, Stored, npt.NDArray[np.int64]]:
    """Return values, indices and indptr of a sparse matrix, the latter of at most `most` lines and one more.

    Raises
    ------
    SourceError
        If one is missing or of the wrong kind.
    """
    parts: dict[str, Stored] = {}
    for name in ("data", "indices", "indptr"):
        part = member(group, name)
        if not isinstance(part, h5py.Dataset) or part.ndim != 1:
            raise SourceError(f"{where} has no {name}; the file is broken")
        parts[name] = locate(part)
        if name != "data" and parts[name].dtype.kind not in "iu":
            raise SourceError(f"{where} has {name} of type {parts[name].dtype}; the file is broken")
    n = min(parts["indptr"].shape[0], most + 2)
    check_held(16 * n, f"{where} has {n:,} places in indptr")
    with reading(f"{where}, indptr"):
        indptr = np.asarray(member(group, "indptr")[: most + 2], dtype=np.int64)
    return parts["data"], parts["indices"], indptr


def _agree(where: str, found: Sequence[int], shape: tuple[int, int]) -> None:
    if tuple(found) != shape:
        size = " x ".join(map(str, found))
        raise SourceError(f"{where} is {size}, but obs and var have {shape[0]} and {shape[1]} rows; the file is broken")


def modality_of(path: str, file: h5py.File, asked: str | None) -> str | None:
    """Return which modality of a file is read; None if the file is an .h5ad.

    Raises
    ------
    InputError
        If the file is neither .h5ad nor .h5mu; if it has several modalities and none is asked for, or not that one.
    """
    known = members(member(file, "mod"))
    if not known:
        shown = ", ".join(members(file)[:8]) or "nothing"
        with reading(path):
            kind = inside(file)
        if kind is HDF5:
            raise InputError(f"{path!r} is an HDF5 file, but no .h5ad: it has {shown}")
        if kind not in (H5AD, H5MU):
            raise InputError(said(path, kind, "no .h5ad"))
        if asked is not None:
            raise InputError(f"modality={asked!r} is for .h5mu files; {path} is none, so leave it out")
        return None
    shown = " or ".join(f"modality={name!r}" for name in known)
    if asked is None and len(known) > 1:
        raise InputError(f"{path} is an .h5mu with {len(known)} modalities; say which: {shown}")
    if asked is not None and asked not in known:
        raise InputError(f"modality={asked!r}: {path} has no such modality, but {shown}; {nearest(asked, known)}")
    return asked or known[0]


def matrices(file: h5py.Group) -> list[str]:
    """Return what `layer=` and `raw=` can name, by their paths."""
    names = [f"layers/{name}" for name in members(member(file, "layers"))]
    return [name for name in ("X", "raw/X") if member(file, name) is not None] + names


def asked_as(path: str) -> str:
    """Return how a matrix is asked for."""
    return {"X": "the default", "raw/X": "raw=True"}.get(path, f"layer={path.removeprefix('layers/')!r}")

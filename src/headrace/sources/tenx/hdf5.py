"""The .h5 of Cell Ranger: version 2 (one group per genome), version 3 ("matrix", with features)."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import InputError, SourceError, nearest
from ..foreign import HDF5, TENX, inside, said
from ..h5ad.file import check_storage, member, members, reading
from ..h5ad.locate import vectors
from ..h5ad.matrix import Csr
from ..h5ad.preads import Disk
from ..h5ad.sizes import TEXT_COPIES, check_held, texts_of
from ..h5ad.table import STRING_BYTES
from ..h5ad.values import Names
from ..summary import Exact

OLD_NAMES = {"id": ("genes", "gene_ids"), "name": ("gene_names", "genes")}


def open_hdf5(disk: Disk, genome: str | None) -> tuple[Csr, pd.Index, pd.DataFrame]:
    """Return the matrix (cells x features), the barcodes and the table of features.

    Raises
    ------
    InputError
        If it is no such file, or has several genomes and none is chosen.
    """
    file = disk.hdf5
    there = members(file)
    with reading(disk.path):
        kind = inside(file)
    if kind not in (TENX, HDF5):
        raise InputError(said(disk.path, kind, "no .h5 of Cell Ranger"))
    groups = [name for name in there if _is_matrix(member(file, name))]
    if not groups:
        raise InputError(f"{disk.path} is no .h5 of Cell Ranger: it has {', '.join(there[:8]) or 'nothing'}")
    if groups == ["matrix"]:
        chosen = "matrix"
    elif genome is None and len(groups) > 1:
        raise InputError(f"{disk.path} has several genomes; say genome={groups[0]!r} or {groups[1]!r}")
    else:
        chosen = groups[0] if genome is None else genome
        if chosen not in groups:
            raise InputError(f"genome={genome!r}: {disk.path} has no such genome; {nearest(str(genome), groups)}")
    group = member(file, chosen)
    where = f"{chosen} of {disk.path}"
    var = _features(group, where, chosen)
    barcodes = pd.Index(_texts(member(group, "barcodes"), where), dtype=object)
    data, indices, indptr = vectors(group, where, len(barcodes))
    shape = _numbers(member(group, "shape"), f"shape of {where}")
    if shape.tolist() != [len(var), len(barcodes)]:
        raise SourceError(
            f"{where} is said to be {' x '.join(map(str, shape))}, but has {len(var)} features and {len(barcodes)} "
            "barcodes; the file is broken"
        )
    steps = np.diff(indptr)
    if len(indptr) != len(barcodes) + 1 or indptr[0] != 0 or (steps < 0).any():
        raise SourceError(f"{where}: indptr does not fit {len(barcodes)} barcodes; the file is broken")
    if not indptr[-1] == data.shape[0] == indices.shape[0]:
        raise SourceError(
            f"{where}: indptr ends at {indptr[-1]}, but there are {data.shape[0]} values; the file is broken"
        )
    exact = Exact.among(var["feature_id"])
    names = Names(where, lambda i: str(barcodes[i]), lambda j: str(var["feature_id"].iloc[j]), "refuse", exact)
    return Csr(disk, data, indices, indptr, len(var), names), barcodes, var


def _is_matrix(group: Any) -> bool:
    parts = ("barcodes", "data", "indices", "indptr", "shape")
    return isinstance(group, h5py.Group) and all(isinstance(member(group, part), h5py.Dataset) for part in parts)


def _features(group: Any, where: str, genome: str) -> pd.DataFrame:
    features = member(group, "features")
    found: dict[str, Any] = {}
    inside = features if isinstance(features, h5py.Group) else group
    for name, olds in OLD_NAMES.items():
        part = next((p for p in (name, *olds) if isinstance(member(inside, p), h5py.Dataset)), None)
        if part is None:
            raise SourceError(f"{where} has no {name} of features; the file is broken")
        found[f"feature_{name}"] = _texts(member(inside, part), where)
    kind, of = member(inside, "feature_type"), member(inside, "genome")
    n = len(found["feature_id"])
    found["feature_types"] = ["Gene Expression"] * n if kind is None else _texts(kind, where)
    found["genome"] = [genome if features is None else ""] * n if of is None else _texts(of, where)
    if len({len(column) for column in found.values()}) > 1:
        raise SourceError(f"{where}: the columns of its features differ in length; the file is broken")
    return pd.DataFrame(found)


def _numbers(dataset: h5py.Dataset, where: str) -> npt.NDArray[np.int64]:
    """Return a list of whole numbers."""
    check_storage(dataset)
    if dataset.ndim != 1 or dataset.dtype.kind not in "iu":
        raise SourceError(f"{where} is no list of whole numbers; the file is broken")
    with reading(where):
        return np.asarray(dataset[:], dtype=np.int64)


def _texts(dataset: Any, where: str) -> list[str]:
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or dataset.dtype.kind not in "SO":
        raise SourceError(f"{where}: barcodes or features are no list of text; the file is broken")
    check_storage(dataset)
    what = f"{where} has {len(dataset):,} barcodes or features"
    check_held(len(dataset) * STRING_BYTES, what)
    with reading(where):
        total = texts_of(dataset, len(dataset), where).total
    check_held(TEXT_COPIES * total, f"{what}, {total / 1e6:,.0f} MB of text")
    with reading(where):
        return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in dataset[:]]

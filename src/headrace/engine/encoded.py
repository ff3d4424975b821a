"""Chunks as bytes: of a spool's part, and of what a task of a pass that writes has made.

X is kept as row lengths, differences of column numbers, and counts, each in as few bytes as they need, compressed, with
a checksum for each section. Values that are large are kept exactly, in more bytes; those that are not whole as they
are, since they hardly get smaller (3 bytes of 4).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from isal.isal_zlib import crc32  # zlib's own, six times as fast
from scipy import sparse

from ..chunk import Chunk, Matrix, csr
from ..stats import kernels
from ..support.packed import pack, pack_rows, unpack, unpack_rows

MAGIC = b"headrace spool 3\n"
ESCAPE = 65535
MOST_SECTIONS = 1024
PER_MATRIX = 4
"""Sections of a matrix: row lengths, differences, values, values that are large."""


def encode(chunk: Chunk, of: Sequence[str | int] = ()) -> bytes:
    """Turn a chunk into bytes that say what they are of; `unlogged` is left out."""
    X = chunk.X
    meta, first = _matrix(X, None)
    meta["obsm"] = [(name, values.dtype.str, values.shape[1]) for name, values in chunk.obsm.items()]
    if of:
        meta["of"] = of
    parts = [b"", *pack_rows(chunk.rows), *first, *(pack(values.ravel()) for values in chunk.obsm.values())]
    for name, layer in chunk.layers.items():
        about, more = _matrix(layer, X)
        meta.setdefault("layers", []).append({"name": name, **about})
        parts += more
    parts[0] = json.dumps(meta).encode()
    header = b"".join(struct.pack("<QI", len(part), crc32(part)) for part in parts)
    start = MAGIC + struct.pack("<I", len(parts)) + header
    return b"".join([start, struct.pack("<I", crc32(start)), *parts])


def _matrix(X: Matrix, beside: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Return what is said of a matrix, and its sections; where its values are, `beside` may say."""
    if isinstance(X, np.ndarray):
        return {"shape": X.shape, "dense": X.dtype.str}, [b"", b"", pack(np.ascontiguousarray(X).ravel()), b""]
    lengths, deltas, dtype = b"", b"", ""
    shared = sparse.issparse(beside) and X.indices is beside.indices and X.indptr is beside.indptr
    if not shared:
        steps = np.empty(X.nnz, dtype=np.uint32 if X.shape[1] > ESCAPE + 1 else np.uint16)
        kernels.to_deltas(X.indptr, X.indices, steps)
        lengths, deltas, dtype = pack(np.diff(X.indptr).astype(np.uint32)), pack(steps), steps.dtype.str
    counts = np.empty(X.nnz, dtype=np.uint16)
    large = kernels.narrow(X.data, ESCAPE, counts)
    escaped = X.data[counts == ESCAPE] if large > 0 else X.data[:0]
    meta = {"shape": X.shape, "nnz": int(X.nnz), "deltas": dtype, "whole": large >= 0, "large": len(escaped)}
    return meta, [lengths, deltas, pack(counts) if large >= 0 else X.data.tobytes(), pack(escaped)]


def decode(stored: bytes | memoryview, empty: pd.DataFrame, of: Sequence[str | int] = ()) -> Chunk:
    """Undo `encode`; raise ValueError if the bytes are not right. `empty` is the stream's `obs` without rows."""
    parts = sections(stored)
    meta = described(parts, of)
    _, numbers, text, others, *arrays = parts
    n_obs = meta["shape"][0]
    X = _decoded(meta, arrays, None)
    obsm = {
        name: unpack(part, dtype, n_obs * k).reshape(n_obs, k)
        for (name, dtype, k), part in zip(meta["obsm"], arrays[PER_MATRIX:], strict=False)
    }
    at, layers = PER_MATRIX + len(obsm), {}
    for about in meta.get("layers", []):
        layers[about["name"]] = _decoded(about, arrays[at:], X)
        at += PER_MATRIX
    return Chunk(X, unpack_rows(numbers, text, others, empty, n_obs), layers, obsm=obsm)


def _decoded(meta: dict[str, Any], arrays: Sequence[memoryview], beside: Any) -> Matrix:
    n_obs, n_vars = meta["shape"]
    if "dense" in meta:
        return unpack(arrays[2], meta["dense"], n_obs * n_vars).reshape(n_obs, n_vars)
    nnz = meta["nnz"]
    indptr: npt.NDArray[np.int32]
    if meta["deltas"]:
        indptr = np.zeros(n_obs + 1, dtype=np.int32)
        np.cumsum(unpack(arrays[0], np.uint32, n_obs), out=indptr[1:])
        indices = np.empty(nnz, dtype=np.int32)
        kernels.from_deltas(indptr, unpack(arrays[1], meta["deltas"], nnz), indices)
    else:
        assert sparse.issparse(beside)
        indptr, indices = beside.indptr, beside.indices
    if not meta["whole"]:
        return csr(np.frombuffer(arrays[2], dtype=np.float32, count=nnz).copy(), indices, indptr, n_vars)
    values = unpack(arrays[2], np.uint16, nnz)
    data = values.astype(np.float32)
    if meta["large"]:
        data[values == ESCAPE] = unpack(arrays[3], np.float32, meta["large"])
    return csr(data, indices, indptr, n_vars)


def described(parts: list[memoryview], of: Sequence[str | int]) -> dict[str, Any]:
    """Return what a part says of itself, or raise ValueError if it is of other cells or another plan than `of`."""
    meta: dict[str, Any] = json.loads(bytes(parts[0]))
    if of and (meta.get("of") != list(of) or meta["shape"][0] != of[2] - of[1]):  # type: ignore[operator] # numbers
        raise ValueError("it is of other cells, or of another run")
    return meta


def sections(stored: bytes | memoryview) -> list[memoryview]:
    """Cut a part into its sections, or raise ValueError if one is not as it was written."""
    view = memoryview(stored)
    at = len(MAGIC)
    if bytes(view[:at]) != MAGIC or len(view) < at + 4:
        raise ValueError("it does not begin as a part")
    (n,) = struct.unpack_from("<I", view, at)
    end = at + 4 + 12 * n
    if n > MOST_SECTIONS or len(view) < end + 4 or crc32(view[:end]) != struct.unpack_from("<I", view, end)[0]:
        raise ValueError("its header is not as it was written")
    entries = [struct.unpack_from("<QI", view, at + 4 + 12 * i) for i in range(n)]
    out, start = [], end + 4
    for length, checksum in entries:
        section = view[start : start + length]
        if len(section) != length or crc32(section) != checksum:
            raise ValueError("a checksum is wrong")
        out.append(section)
        start += length
    if start != len(view):
        raise ValueError("it is longer than it was written")
    return out

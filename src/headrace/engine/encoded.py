"""Chunks as bytes: of a spool's part, and of what a task of a pass that writes has made.

X is kept as row lengths, differences of column numbers, and counts, each in a byte where almost all fit, compressed
where that makes them smaller, with a checksum for each section. What is large is kept exactly, in more bytes; values
that are not whole as they are, since they hardly get smaller (3 bytes of 4).
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

MAGIC = b"headrace spool 4\n"
MOST_SECTIONS = 1024
PER_MATRIX = 5
"""Sections of a matrix: row lengths, differences, those that are large, values, those that are large."""

RARE = 8
"""A byte each is enough if fewer than one of so many is larger."""

DENSE = 8
"""Where more than one of so many values is not 0, differences of columns are compressed; else that gains nothing."""


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
        return {"shape": X.shape, "dense": X.dtype.str}, [b"", b"", b"", pack(np.ascontiguousarray(X).ravel()), b""]
    shared = sparse.issparse(beside) and X.indices is beside.indices and X.indptr is beside.indptr
    where, columns = ({"deltas": ""}, [b"", b"", b""]) if shared else _columns(X)
    what, values = _values(X.data)
    return {"shape": X.shape, "nnz": int(X.nnz), **where, **what}, [*columns, *values]


def _columns(X: sparse.csr_array) -> tuple[dict[str, Any], list[bytes]]:
    """Return where values are: what is said of it, and three sections."""
    steps = np.empty(X.nnz, dtype=np.uint32 if X.shape[1] > 1 << 16 else np.uint16)
    kernels.to_deltas(X.indptr, X.indices, steps)
    lengths = pack(np.diff(X.indptr).astype(np.uint32))
    short, far = np.empty(X.nnz, dtype=np.uint8), np.empty(X.nnz // RARE + 64, dtype=steps.dtype)
    n = kernels.shorten(steps, short, far)
    if n < 0:
        return {"deltas": steps.dtype.str}, [lengths, pack(steps), b""]
    plain = X.nnz * DENSE < X.shape[0] * X.shape[1]
    meta = {"deltas": short.dtype.str, "plain": plain, "far": n, "far_dtype": far.dtype.str}
    return meta, [lengths, short.tobytes() if plain else pack(short), pack(far[:n])]


def _values(data: npt.NDArray[np.float32]) -> tuple[dict[str, Any], list[bytes]]:
    """Return values: what is said of them, and two sections."""
    for dtype, room in ((np.uint8, len(data) // RARE + 64), (np.uint16, len(data) + 64)):
        counts, large = np.empty(len(data), dtype=dtype), np.empty(room, dtype=np.float32)
        n = kernels.narrow(data, np.iinfo(dtype).max, counts, large)
        if n == -1:
            break
        if n >= 0:
            return {"values": counts.dtype.str, "large": n}, [pack(counts), pack(large[:n])]
    return {"values": "<f4"}, [data.tobytes(), b""]


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
        return unpack(arrays[3], meta["dense"], n_obs * n_vars).reshape(n_obs, n_vars)
    nnz = meta["nnz"]
    indptr: npt.NDArray[np.int32]
    if meta["deltas"]:
        indptr = np.zeros(n_obs + 1, dtype=np.int32)
        np.cumsum(unpack(arrays[0], np.uint32, n_obs), out=indptr[1:])
        indices = np.empty(nnz, dtype=np.int32)
        _fill_columns(meta, arrays, indptr, indices)
    else:
        assert sparse.issparse(beside)
        indptr, indices = beside.indptr, beside.indices
    if meta["values"] == "<f4":
        return csr(np.frombuffer(arrays[3], dtype=np.float32, count=nnz).copy(), indices, indptr, n_vars)
    values, data = unpack(arrays[3], meta["values"], nnz), np.empty(nnz, dtype=np.float32)
    if not kernels.widen(values, np.iinfo(values.dtype).max, unpack(arrays[4], np.float32, meta["large"]), data):
        raise ValueError("its values are not as they were written")
    return csr(data, indices, indptr, n_vars)


def _fill_columns(meta: dict[str, Any], arrays: Sequence[memoryview], indptr: Any, indices: Any) -> None:
    if meta["deltas"] != "|u1":
        kernels.from_deltas(indptr, unpack(arrays[1], meta["deltas"], len(indices)), indices)
        return
    n = len(indices)
    short = np.frombuffer(arrays[1], dtype=np.uint8, count=n) if meta["plain"] else unpack(arrays[1], np.uint8, n)
    if not kernels.from_short(indptr, short, unpack(arrays[2], meta["far_dtype"], meta["far"]), indices):
        raise ValueError("its columns are not as they were written")


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

"""The spool: what was read from a source, kept on the local disk for later passes and later runs.

One file for each chunk, moved into place when whole. A file has the cells' annotations (`packed.py`),
and X as row lengths, differences of column numbers, and counts, each in as few bytes as they
need, compressed (LZ4 after a transposition of bits) and with a checksum: about 1.3 bytes for each
non-zero. Values that are large or not whole are kept exactly, in more bytes.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..chunk import Chunk, csr
from ..errors import OutputError, SourceError
from ..stats import kernels
from ..support.atomic import locked, write_within
from ..support.packed import pack, pack_frame, unpack, unpack_frame
from ..support.private import Folder, own_folder

MAGIC = b"headrace spool 2\n"
NAME = r"[0-9a-f]{16,64}"
"""A spool's folder: a plan's fingerprint."""

ESCAPE = 65535
BYTES_PER_NNZ = 2.0
"""What `explain` reckons with; full-length assays, with large counts, come to about 2."""


@dataclass(frozen=True)
class Spool:
    """The parts of one plan's source.

    Parameters
    ----------
    folder
        Where the parts are. Its name is the plan's fingerprint: another plan has another folder.
    obs
        No rows: the names and dtypes of the columns of `obs`, categories included.
    """

    folder: Path
    obs: pd.DataFrame
    held: list[Folder] = field(default_factory=list, compare=False, repr=False)

    @contextmanager
    def opened(self, about: dict[str, Any], keep: bool) -> Iterator[Spool]:
        """Make the folder and hold it; afterwards remove it, unless an exception or `keep` speaks for it.

        Raises
        ------
        OutputError
            If it cannot be made, or another run uses it.
        """
        with (
            own_folder(self.folder, "the spool", "choose another folder with spool=") as held,
            locked(self.folder, "the spool"),
        ):
            if held.doubtful:
                held.empty()  # whatever it says it is, somebody else may have put it there
            self.held[:] = [held]
            try:
                if not (self.folder / "about.json").exists():
                    self._place("about.json", json.dumps(about, default=str).encode())
                yield self
            finally:
                self.held.clear()
            if not keep:
                held.empty()
                with suppress(OSError):  # not empty: other plans have theirs there
                    self.folder.rmdir()
                    self.folder.parent.rmdir()

    def path(self, start: int, stop: int) -> Path:
        """Return the file of the cells between two positions."""
        return self.folder / f"cells-{start:012d}-{stop:012d}.part"

    def store(self, start: int, stop: int, chunk: Chunk) -> None:
        """Keep a chunk."""
        self._place(self.path(start, stop).name, encode(chunk, self._of(start, stop)))

    def load(self, start: int, stop: int) -> Chunk:
        """Return a chunk, bit for bit.

        Raises
        ------
        SourceError
            If the part is gone or its checksum is wrong; it is removed then, and the next run reads it anew.
        """
        path = self.path(start, stop)
        try:
            return decode(self.held[0].read(path.name), self.obs, self._of(start, stop))
        except FileNotFoundError:
            raise SourceError(f"the spool's part {path} has vanished; run again to read it anew") from None
        except OSError as error:
            raise SourceError(
                f"the spool's part {path} cannot be read: {error.strerror}; run again to read it anew"
            ) from error
        except ValueError as error:
            self.held[0].remove(path.name)
            raise SourceError(f"the spool's part {path} is damaged ({error}); run again to read it anew") from None

    def whole(self, start: int, stop: int) -> bool:
        """Check a part of an earlier run: its checksums, and what it says it is of; a wrong one is removed."""
        name = self.path(start, stop).name
        try:
            described(sections(self.held[0].read(name)), self._of(start, stop))
        except OSError:
            return False  # whatever is wrong with it, a new one takes its place
        except ValueError:
            self.held[0].remove(name)
            return False
        return True

    def _of(self, start: int, stop: int) -> list[str | int]:
        """Say what a part is of: the plan by its fingerprint, and the cells."""
        return [self.folder.name, start, stop]

    def _place(self, name: str, data: bytes) -> None:
        try:
            write_within(self.held[0].handle, name, data)
        except OSError as error:
            raise OutputError(
                f"cannot write to the spool {self.folder}: {error.strerror}; free some space or choose another "
                "folder with spool="
            ) from error


def encode(chunk: Chunk, of: Sequence[str | int] = ()) -> bytes:
    """Turn a chunk without layers into bytes that say what they are of."""
    X = chunk.X
    assert not isinstance(X, np.ndarray), "a source's chunks are sparse"
    assert not chunk.layers, "a source's chunks have no layers"
    lengths = np.diff(X.indptr).astype(np.uint32)
    deltas = np.empty(X.nnz, dtype=np.uint32 if X.shape[1] > ESCAPE + 1 else np.uint16)
    kernels.to_deltas(X.indptr, X.indices, deltas)
    counts = np.empty(X.nnz, dtype=np.uint16)
    large = kernels.narrow(X.data, ESCAPE, counts)
    escaped = X.data[counts == ESCAPE] if large > 0 else X.data[:0]
    meta = {
        "shape": X.shape,
        "nnz": int(X.nnz),
        "deltas": deltas.dtype.str,
        "whole": large >= 0,
        "large": len(escaped),
        "obsm": [(name, values.dtype.str, values.shape[1]) for name, values in chunk.obsm.items()],
    }
    if of:
        meta["of"] = of
    values = pack(counts if large >= 0 else X.data)
    parts = [json.dumps(meta).encode(), *pack_frame(chunk.obs), pack(lengths), pack(deltas), values, pack(escaped)]
    parts += [pack(values.ravel()) for values in chunk.obsm.values()]
    header = b"".join(struct.pack("<QI", len(part), zlib.crc32(part)) for part in parts)
    start = MAGIC + struct.pack("<I", len(parts)) + header
    return b"".join([start, struct.pack("<I", zlib.crc32(start)), *parts])


def decode(stored: bytes, empty: pd.DataFrame, of: Sequence[str | int] = ()) -> Chunk:
    """Undo `encode`; raise ValueError if the bytes are not right. `empty` is the stream's `obs` without rows."""
    parts = sections(stored)
    meta = described(parts, of)
    _, numbers, text, others, *arrays = parts
    (n_obs, n_vars), nnz = meta["shape"], meta["nnz"]
    indptr = np.zeros(n_obs + 1, dtype=np.int32)
    np.cumsum(unpack(arrays[0], np.uint32, n_obs), out=indptr[1:])
    indices = np.empty(nnz, dtype=np.int32)
    kernels.from_deltas(indptr, unpack(arrays[1], meta["deltas"], nnz), indices)
    values = unpack(arrays[2], np.uint16 if meta["whole"] else np.float32, nnz)
    data = values.astype(np.float32, copy=False)
    if meta["large"]:
        data[values == ESCAPE] = unpack(arrays[3], np.float32, meta["large"])
    obsm = {
        name: unpack(part, dtype, n_obs * k).reshape(n_obs, k)
        for (name, dtype, k), part in zip(meta["obsm"], arrays[4:], strict=True)
    }
    return Chunk(csr(data, indices, indptr, n_vars), unpack_frame(numbers, text, others, empty, n_obs), obsm=obsm)


def described(parts: list[memoryview], of: Sequence[str | int]) -> dict[str, Any]:
    """Return what a part says of itself, or raise ValueError if it is of other cells or another plan than `of`."""
    meta: dict[str, Any] = json.loads(bytes(parts[0]))
    if of and (meta.get("of") != list(of) or meta["shape"][0] != of[2] - of[1]):  # type: ignore[operator] # numbers
        raise ValueError("it is of other cells, or of another run")
    return meta


def sections(stored: bytes) -> list[memoryview]:
    """Cut a part into its sections, or raise ValueError if one is not as it was written."""
    view = memoryview(stored)
    at = len(MAGIC)
    if not stored.startswith(MAGIC) or len(view) < at + 4:
        raise ValueError("it does not begin as a part")
    (n,) = struct.unpack_from("<I", view, at)
    end = at + 4 + 12 * n
    if n > 1024 or len(view) < end + 4 or zlib.crc32(view[:end]) != struct.unpack_from("<I", view, end)[0]:
        raise ValueError("its header is not as it was written")
    entries = [struct.unpack_from("<QI", view, at + 4 + 12 * i) for i in range(n)]
    out, start = [], end + 4
    for length, checksum in entries:
        section = view[start : start + length]
        if len(section) != length or zlib.crc32(section) != checksum:
            raise ValueError("a checksum is wrong")
        out.append(section)
        start += length
    if start != len(view):
        raise ValueError("it is longer than it was written")
    return out


def need(n_obs: int, nnz: int) -> int:
    """Estimate the bytes a spool takes."""
    return int(nnz * BYTES_PER_NNZ + n_obs * 60)


def check_spool_fits(folder: Path, bytes_needed: int) -> None:
    """Raise `OutputError` if the disk has no room."""
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < bytes_needed:
        raise OutputError(
            f"the spool needs about {bytes_needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free; "
            "choose another folder with spool="
        )


def found(folder: Path) -> list[dict[str, Any]]:
    """List the spools in a folder: name, bytes, parts, what they are about."""
    out = []
    for each in sorted(folder.glob("*/")):
        if not re.fullmatch(NAME, each.name):
            continue  # not one of ours
        about: Any = {}
        with suppress(OSError, ValueError, RecursionError):  # one that was killed at its very beginning or end has none
            about = json.loads((each / "about.json").read_text())
        if not isinstance(about, dict) or not isinstance(about.get("source", {}), dict):
            about = {}  # whoever wrote that
        n_parts = len(list(each.glob("*.part")))
        out.append({"folder": str(each), "bytes": size_of(each), "parts": n_parts, "about": about})
    return out


def size_of(folder: Path) -> int:
    """Return the bytes of all parts of a spool, and of what has come from far away and is no part yet."""
    size = 0
    for part in (*folder.glob("*.part"), *folder.glob("*/*.bytes")):
        with suppress(OSError):  # a run ends just now
            size += part.stat().st_size
    return size


def clean(folder: Path, on_each: Callable[[Path], None] = lambda path: None) -> int:
    """Remove the spools in a folder that no run uses; return how many."""
    removed = 0
    for entry in found(folder):
        path = Path(entry["folder"])
        try:
            with locked(path, "the spool"):
                shutil.rmtree(path)
        except (OutputError, OSError):
            continue
        on_each(path)
        removed += 1
    return removed


__all__ = ["Spool", "check_spool_fits", "clean", "decode", "encode", "found", "need", "size_of"]

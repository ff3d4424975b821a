"""Checksums of what HDF5 itself does not protect: text, single values, attributes."""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np

WHERE = "uns/headrace/digests"


def record(file: h5py.File) -> None:
    """Write the digests of a file into it; the last thing that is written."""
    found = digests(file)
    group = file.require_group(WHERE)
    for each in (group.parent, group):
        each.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    for name, value in found.items():
        entry = group.create_dataset(name, data=np.int64(value))
        entry.attrs.update({"encoding-type": "numeric-scalar", "encoding-version": "0.2.0"})


def digests(file: h5py.File) -> dict[str, int]:
    """Return the digest of all attributes, of all text, and of all single values, as they are read now."""
    attributes = text = scalars = zlib.crc32(b"headrace")
    names: list[str] = []
    file.visit(names.append)
    for name in ["/", *sorted(names)]:
        if name.startswith(WHERE) or name in ("uns", "uns/headrace"):
            continue
        entry = file[name]
        for key in sorted(entry.attrs):
            attributes = zlib.crc32(f"{name} {key} {_plain(entry.attrs[key])}".encode(), attributes)
        if isinstance(entry, h5py.Dataset):
            if entry.shape == ():
                scalars = zlib.crc32(f"{name} {_plain(entry[()])}".encode(), scalars)
            elif entry.dtype.kind == "O":
                for start in range(0, len(entry), 1 << 16):
                    joined = "\0".join(entry.asstr()[start : start + (1 << 16)])
                    text = zlib.crc32(f"{name} {joined}".encode(), text)
    return {"attributes": attributes, "scalars": scalars, "text": text}


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(value.tolist()) if isinstance(value, (np.ndarray, np.generic)) else str(value)

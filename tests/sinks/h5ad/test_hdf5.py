"""Growing datasets: the size of their chunks, and every byte in them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from headrace.sinks.h5ad.hdf5 import ALIGNED, Appender, Compression, Storage
from headrace.sinks.h5ad.reorder import ReorderBuffer


def written(path: Path, parts: list[Any], compression: Compression, checksum: bool, **options: Any) -> None:
    outbox = ReorderBuffer(threads=2)
    with h5py.File(path, "w", libver=("v108", "latest"), **ALIGNED) as file:
        dtype = parts[0].dtype
        appender = Appender(file, "d", dtype, Storage(compression, checksum, outbox), **options)
        for part in parts:
            appender.append(part)
        appender.finish()
        outbox.flush()
    outbox.close()


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize(
    ("dtype", "width", "most", "rows"),
    [
        ("f4", (), None, (262_144, 262_143)),  # 1 MiB, of which the checksum takes 4 bytes
        ("i8", (), None, (131_072, 131_071)),
        ("f4", (), 10, (10, 10)),
        ("f4", (), 0, (1, 1)),
        ("f4", (), 10**9, (262_144, 262_143)),
        ("f4", (1000,), None, (262, 262)),
        ("f4", (64,), None, (4096, 4095)),
        ("f4", (300_000,), None, (1, 1)),
    ],
)
def test_the_size_of_chunks(
    dtype: str, width: tuple[int, ...], most: int | None, rows: tuple[int, int], checksum: bool, tmp_path: Path
) -> None:
    outbox = ReorderBuffer(threads=1)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        appender = Appender(file, "d", dtype, Storage(None, checksum, outbox), width=width, most=most)
        assert appender.dataset.chunks == (rows[checksum], *width)
        assert appender.dataset.shape == (0, *width)
        assert appender.dataset.maxshape == (None, *width)
        appender.finish()
    outbox.close()


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("width", [(), (3,)])
@pytest.mark.parametrize("cuts", [[23], [10, 10, 3], [1] * 23, [5, 5, 13], [20], [7, 0, 3], []], ids=str)
def test_every_value_arrives_and_what_follows_it_is_zero(
    compression: Compression, checksum: bool, width: tuple[int, ...], cuts: list[int], tmp_path: Path
) -> None:
    n, entry = sum(cuts), int(np.prod(width, dtype=int))
    values = np.arange(1, n * entry + 1, dtype=np.float32).reshape(n, *width)
    parts = np.split(values, np.cumsum(cuts)[:-1]) if cuts else [values]
    path = tmp_path / "x.h5"
    written(path, parts, compression, checksum, width=width, most=10)
    with h5py.File(path) as file:
        data = file["d"]
        assert (data.fletcher32, data.compression) == (checksum, compression)
        np.testing.assert_array_equal(data[:], values, strict=True)
        assert data.id.get_num_chunks() == -(-n // 10)
        for at in range(0, n, 10):
            mask, stored = data.id.read_direct_chunk((at, *(0 for _ in width)))
            assert mask == 0
            stored = stored[: len(stored) - 4 * checksum]
            if compression:
                stored = np.frombuffer(zlib.decompress(stored), np.uint8).reshape(4, -1).T.tobytes()
            padded = np.zeros(10 * entry, dtype=np.float32)
            padded[: len(values[at : at + 10]) * entry] = values[at : at + 10].ravel()
            np.testing.assert_array_equal(np.frombuffer(stored, np.float32), padded)


def test_the_same_bytes_however_it_is_cut(tmp_path: Path) -> None:
    values = np.random.default_rng(0).poisson(3, 300_000).astype(np.float32)  # more than one chunk of 1 MiB
    for name, at in (("a", [150_000]), ("b", [1, 262_143, 262_144])):
        written(tmp_path / name, np.split(values, at), "gzip", True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

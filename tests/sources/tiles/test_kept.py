"""Bytes that were kept of requests: what is found again is what had come, whatever the disk did."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from headrace.sources.tiles.kept import Kept

STORED = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()


def keep(folder: Path, parts: Sequence[tuple[int, int]]) -> None:
    with Kept(folder).request("a0.tdb") as writing:
        for start, stop in parts:
            writing.append(start, memoryview(STORED)[start:stop])


def found(folder: Path, start: int = 0, stop: int = 5000) -> list[tuple[int, int]]:
    """Return from where to where bytes are found; they are those that were kept."""
    out = []
    for begins, data in Kept(folder).find("a0.tdb", start, stop):
        assert data == STORED[begins : begins + len(data)]
        out.append((begins, begins + len(data)))
    return out


def test_what_was_kept_is_found_once_and_in_order(tmp_path: Path) -> None:
    keep(tmp_path, [(1000, 2000), (2000, 2500)])
    keep(tmp_path, [(1500, 3000)])
    assert found(tmp_path) == [(1000, 2000), (2000, 3000)]
    assert found(tmp_path, 1200, 1300) == [(1200, 1300)]
    assert found(tmp_path, 3000, 4000) == []
    assert list(Kept(tmp_path).find("d0.tdb", 0, 5000)) == []


def test_a_disk_that_takes_half_keeps_what_came_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would follow the half is not written: it would be taken for the rest of it."""
    write, calls = os.writev, []

    def half(fd: int, parts: list[bytes]) -> int:
        calls.append(fd)
        whole = b"".join(bytes(part) for part in parts)
        return write(fd, [whole[: len(whole) // 2]]) if len(calls) == 2 else write(fd, parts)

    monkeypatch.setattr(os, "writev", half)
    keep(tmp_path, [(0, 1000), (1000, 2000), (2000, 3000)])
    assert len(calls) == 2
    assert found(tmp_path) == [(0, 1000)]


def test_a_disk_that_fails_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    keep(tmp_path / "file" / "kept", [(0, 1000)])
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.parametrize("place", [0, 5, 12, 40])
def test_damage_is_not_believed(place: int, tmp_path: Path) -> None:
    keep(tmp_path, [(0, 1000), (1000, 2000)])
    (file,) = tmp_path.iterdir()
    broken = bytearray(file.read_bytes())
    broken[place] ^= 1
    file.write_bytes(broken)
    assert (0, 1000) not in found(tmp_path)

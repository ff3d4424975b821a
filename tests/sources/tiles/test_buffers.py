"""Memory that blocks are decoded into is not used again while anything of it is held."""

from __future__ import annotations

import gc
import mmap
import threading
from pathlib import Path

import numpy as np
import pytest

import headrace as hr
from headrace.sources.tiles.buffers import Buffers
from headrace.sources.tiles.rows import BLOCK_NNZ


def test_a_view_holds_the_memory() -> None:
    buffers = Buffers(1 << 16)
    first = buffers.array(1000, np.float32)
    first[:] = np.arange(1000)
    view = first[10:20][::2]
    del first
    gc.collect()
    second = buffers.array(1000, np.float32)
    second[:] = -1
    assert view.tolist() == [10, 12, 14, 16, 18]
    assert not np.shares_memory(view, second)
    place = view.ctypes.data - 40
    del view
    gc.collect()
    assert buffers.array(5, np.int32).ctypes.data == place


def test_arrays_can_be_written_and_are_aligned() -> None:
    out = Buffers(1 << 16).array(100, np.int32)
    assert out.flags.writeable
    assert out.flags.c_contiguous
    assert out.ctypes.data % 4096 == 0
    assert out.shape == (100,)


@pytest.mark.parametrize("n", [0, (1 << 14) + 1])
def test_none_and_too_many_values(n: int) -> None:
    buffers = Buffers(1 << 16)
    assert buffers.array(n, np.float32).shape == (n,)
    assert not buffers.free


def test_threads_that_take_and_give_back_never_share() -> None:
    buffers = Buffers(1 << 16)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(300):
            mine = buffers.array(1 << 14, np.int32)
            mine[:] = number
            kept = mine[::7]
            del mine
            if not (kept == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(buffers.free) <= 16  # each holds two for a moment


def test_memory_goes_back_once_all_is_read(demo_census: Path) -> None:
    query = hr.open_census(demo_census).query("homo_sapiens", genes="all", primary_only=False)
    chunks = list(query.read(query.refs(50_000)))
    assert mapped_pieces() > 0
    del chunks
    gc.collect()
    assert mapped_pieces() == 0


def mapped_pieces() -> int:
    return sum(isinstance(each, mmap.mmap) and len(each) == 4 * BLOCK_NNZ for each in gc.get_objects())

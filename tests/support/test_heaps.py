"""Objects of a heap are followed by two loops, of Python for headers and compiled for texts: they say the same."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.stats import kernels
from headrace.support.heaps import OBJECT, follow


def heap(lengths: list[int], free: int) -> bytearray:
    """Return a heap as HDF5 writes it: each object with its number, its length, and its bytes to a multiple of 8."""
    out = bytearray()
    for number, length in enumerate(lengths, start=1):
        out += number.to_bytes(2, "little") + bytes([1, 0, 0, 0, 0, 0]) + length.to_bytes(8, "little")
        out += bytes(-(-length // 8) * 8)
    return out + bytes(8) + free.to_bytes(8, "little") + bytes(free - OBJECT)


def both(raw: bytes | bytearray, rest: int) -> int:
    found = follow(bytes(raw), rest)
    assert kernels.follow(np.frombuffer(raw, np.uint8), rest) == found
    return found


@pytest.mark.parametrize("lengths", [[], [1], [8, 9, 0, 4000], [300] * 40])
def test_a_good_heap_is_followed_to_its_end(lengths: list[int]) -> None:
    raw = heap(lengths, 64)
    assert both(raw, len(raw)) == len(raw)
    objects = np.cumsum([OBJECT + -(-length // 8) * 8 for length in lengths])
    for n in range(OBJECT, len(raw), 24):  # as far as whole heads of objects are there
        expected = next((end for end in (*objects, len(raw)) if end + OBJECT > n), len(raw))
        assert both(raw[:n], len(raw)) == expected


@pytest.mark.parametrize(
    ("at", "value"),
    [(8, 0), (8, 255), (9, 255), (14, 1), (15, 1), (15, 128), (15, 255)],
    ids=["shorter", "longer", "far longer", "2**48", "2**56", "2**63", "2**64"],
)
def test_lengths_that_lead_nowhere(at: int, value: int) -> None:
    raw = heap([200, 8], 16)
    raw[at] = value
    assert both(raw, len(raw)) == -1


def test_both_loops_say_the_same_of_any_bytes() -> None:
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(3000):
        raw = heap(rng.integers(0, 100, rng.integers(0, 9)).tolist(), int(rng.integers(2, 9)) * 8)
        for _ in range(int(rng.integers(0, 4))):
            raw[int(rng.integers(0, len(raw)))] = int(rng.choice((0, 1, 2, 127, 255)))
        cut = int(rng.integers(0, len(raw) + 1))
        found.add(both(raw[:cut], int(rng.integers(0, len(raw) + 9))) < 0)
    assert found == {True, False}

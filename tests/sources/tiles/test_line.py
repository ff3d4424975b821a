"""How many bytes are asked for at once: what a line carries in four round trips, as far as answers show it."""

from __future__ import annotations

import pytest

from headrace.sources.tiles import Line
from headrace.sources.tiles.readahead import LEAST_WINDOW, SMALLEST_REQUEST

MIB = 1 << 20
MOST = 64 * MIB


def answers(line: Line, now: float, *, delay: float, rate: float, n: int, size: int, at_once: int) -> float:
    """Let a line answer n requests, `at_once` of them under way, each a round trip and its share of the rate."""
    free, begun = now, [now] * at_once
    for k in range(n):
        free = max(free, begun[k % at_once] + delay) + size / rate
        line.saw(begun[k % at_once], free, size)
        begun[k % at_once] = free
    return free


@pytest.mark.parametrize("delay", [0.02, 0.08, 0.15])
@pytest.mark.parametrize("mbit", [200, 1000])
def test_enough_is_under_way_for_the_line(delay: float, mbit: int) -> None:
    """At least two round trips of what the line carries, or all that may be."""
    line, rate, now = Line(True), mbit * 125_000, 0.0
    assert line.window(MOST) == LEAST_WINDOW
    for _ in range(8):
        window = line.window(MOST)
        size = line.request(window)
        now = answers(line, now, delay=delay, rate=rate, n=64, size=size, at_once=max(1, window // size))
    assert line.delay >= delay, "no answer was faster than the line"
    assert line.window(MOST) >= min(2 * rate * delay, MOST)


def test_answers_that_come_together_do_not_make_the_line_look_near() -> None:
    """The first answers share the line: each takes as long as all, whatever the rate is taken for by then."""
    line = Line(True)
    for ended in (0.30, 0.29, 0.31, 0.28):
        line.saw(0.0, ended, MIB)
    assert line.delay == 0.28


def test_a_disk_is_read_in_large_pieces_and_a_small_budget_is_kept() -> None:
    assert Line(False).window(123) == 123
    line = Line(True)
    assert line.window(MIB) == MIB
    assert line.request(MIB) == SMALLEST_REQUEST

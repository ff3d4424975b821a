"""Numbers as people read them."""

from __future__ import annotations

import math

LOG_FIRST, PER_DECADE = -120, 20


def log_edge(number: int) -> float:
    """Return where a bin of counts begins: 20 bins a decade, the first at 1e-6.

    Examples
    --------
    >>> log_edge(120), log_edge(140)
    (1.0, 10.0)
    """
    return float(f"{10 ** ((number + LOG_FIRST) / PER_DECADE):.6g}")


def short(x: float) -> str:
    """Write a number in at most some five characters.

    Examples
    --------
    >>> short(0), short(0.5), short(12), short(1500), short(20_000), short(3_400_000), short(0.00012)
    ('0', '0.5', '12', '1.5k', '20k', '3.4M', '0.00012')
    """
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= least * 0.9995:
            return f"{x / least:.3g}{unit}"
    return f"{x:.3g}"


def whole(n: float | None) -> str:
    """Write a whole number with its thousands apart; a dash for one that is not known."""
    return "–" if n is None else f"{n:,.0f}"


def counted(n: int, unit: str) -> str:
    """Write so many of something.

    Examples
    --------
    >>> counted(1, "cells"), counted(1200, "samples")
    ('1 cell', '1,200 samples')
    """
    return f"{whole(n)} {unit.removesuffix('s') if n == 1 else unit}"


def share(part: float, total: float) -> str:
    """Write a part of a whole in per cent; what is little is not nothing.

    Examples
    --------
    >>> share(1, 3), share(1, 100_000), share(0, 5), share(5, 5), share(99_999, 100_000)
    ('33 %', '<0.1 %', '0 %', '100 %', '>99.9 %')
    """
    if not total or not part:
        return "0 %"
    percent = 100 * part / total
    if part == total:
        return "100 %"
    if percent < 0.1:
        return "<0.1 %"
    if percent > 99.9:
        return ">99.9 %"
    return f"{percent:.0f} %" if 10 <= percent <= 99 else f"{percent:.1f} %"


def size(n_bytes: float) -> str:
    """Write a number of bytes."""
    for least, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= least:
            return f"{n_bytes / least:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def seconds(s: float) -> str:
    """Write a time.

    Examples
    --------
    >>> seconds(0.25), seconds(12.34), seconds(75), seconds(7300)
    ('0.25 s', '12.3 s', '1 min 15 s', '2 h 1 min')
    """
    if s < 60:
        return f"{s:.2f} s" if s < 1 else f"{s:.1f} s"
    minutes, rest = divmod(round(s), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def nice_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return round numbers within bounds, about `n` of them.

    Examples
    --------
    >>> nice_ticks(0, 97), nice_ticks(-1.2, 3.1)
    ([0.0, 20.0, 40.0, 60.0, 80.0], [-1.0, 0.0, 1.0, 2.0, 3.0])
    """
    if not high > low:
        return [low]
    raw = (high - low) / n
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw * 0.9999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten within bounds, or 1, 2 and 5 times these where there are few.

    Examples
    --------
    >>> log_ticks(1, 10_000), log_ticks(300, 4000)
    ([1.0, 10.0, 100.0, 1000.0, 10000.0], [500.0, 1000.0, 2000.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors, most in (((1, 2, 5), 5), ((1, 3), 5), ((1,), 6)):
        ticks = [k * 10.0**e for e in range(first, last + 1) for k in factors]
        inside = [float(f"{t:.6g}") for t in ticks if low * 0.999 <= t <= high * 1.001]
        if len(inside) <= most:
            return inside or [low]
    return inside[:: -(-len(inside) // 6)]

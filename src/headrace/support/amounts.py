"""Times and rates as users write them."""

from __future__ import annotations

import re

from ..errors import InputError

SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
BITS = {"k": 1e3, "m": 1e6, "g": 1e9}


def parse_seconds(text: float | str) -> float:
    """Read a time.

    Examples
    --------
    >>> parse_seconds("5min"), parse_seconds("90 s"), parse_seconds(1.5)
    (300.0, 90.0, 1.5)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*?)(?:utes?|onds?|ours?|s)?\s*", str(text))
    unit = match[2].lower() if match else "?"
    if match is None or isinstance(text, bool) or unit not in SECONDS:
        raise InputError(f"{text!r} is no time; write seconds, or e.g. '5min' or '1h'")
    return float(match[1]) * SECONDS[unit]


def parse_rate(text: float | str) -> float:
    """Read the rate of a line; return bytes a second.

    Examples
    --------
    >>> parse_rate("50Mbit"), parse_rate("1 Gbit/s"), parse_rate("20MB/s"), parse_rate(1000)
    (6250000.0, 125000000.0, 20000000.0, 1000.0)
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and text > 0:
        return float(text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kKmMgG]?)(bits?|bps|b|B)(?:/s|ps)?\s*", str(text))
    if match is None or float(match[1]) == 0:
        raise InputError(f"{text!r} is no rate of a line; write e.g. '50Mbit' (per second) or '6MB/s'")
    number = float(match[1]) * BITS.get(match[2].lower(), 1)
    return number if match[3] == "B" else number / 8


def duration(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> duration(3.52), duration(75), duration(9000), duration(300_000)
    ('4 s', '1 min 15 s', '2 h 30 min', '3 days 11 h')
    """
    whole = round(seconds)
    for unit, size, smaller, part in (("days", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= (2 * size if unit == "days" else size):
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{max(1, whole)} s"

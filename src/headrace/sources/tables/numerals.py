"""Numbers as people write them: decimal commas, thousands; what is ambiguous is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...errors import InputError

Decimal = Literal[".", ","]

PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
DOTS_COMMA = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")
COMMAS_DOT = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
MISSING = frozenset(
    ["", "na", "nan", "n/a", "null", "none", "#n/a", "<na>", ".", "-", "#ref!", "#value!", "#div/0!", "#name?", "#num!"]
)


def is_number(field: str) -> bool:
    """Return whether a field is a number, however it is written.

    Examples
    --------
    >>> [is_number(text) for text in ("1e3", "1,5", "1.234,5", "1,234.5", "TP53", "1_000", "")]
    [True, True, True, True, False, False, False]
    """
    text = field.strip()
    return any(pattern.fullmatch(text) is not None for pattern in (PLAIN, COMMA, DOTS_COMMA, COMMAS_DOT))


def is_missing(field: str) -> bool:
    """Return whether a field stands for no value."""
    return field.strip().lower() in MISSING


def decimal_of(fields: Iterable[str], where: str, given: Decimal | None) -> Decimal:
    """Tell whether a comma is the decimal mark in numbers, of which some have one.

    Raises
    ------
    InputError
        If "1,234" may be either, or the numbers contradict one another.

    Examples
    --------
    >>> decimal_of(["1,5", "20"], "t.csv", None), decimal_of(["1,234.5"], "t.csv", None)
    (',', '.')
    """
    comma, dot, either = "", "", ""
    for raw in fields:
        text = raw.strip()
        whole, _, rest = text.partition(",")
        if text.count(",") > 1 or (_ and "." in rest):
            dot = dot or text
        elif text.count(".") > 1 or (_ and "." in whole):
            comma = comma or text
        elif _:
            bare = whole.lstrip("+-")
            if re.fullmatch(r"\d{3}", rest) and re.fullmatch(r"[1-9]\d{0,2}", bare):
                either = either or text
            else:
                comma = comma or text
        elif "." in text and not DOTS_COMMA.fullmatch(text):
            dot = dot or text
    if comma and dot:
        raise InputError(
            f"{where}: {comma!r} has a comma and {dot!r} a point for the decimal mark; write all numbers in one way"
        )
    if given is not None:
        if (given == "," and dot) or (given == "." and comma):
            raise InputError(f"{where}: decimal={given!r}, but there is {dot or comma!r}")
        return given
    if not comma and not dot and either:
        raise InputError(
            f"{where}: {either!r} may be a number with a decimal comma or thousands; say decimal=',' or decimal='.'"
        )
    return "," if comma else "."


def to_numbers(fields: npt.NDArray[np.object_], decimal: Decimal) -> npt.NDArray[np.float64]:
    """Return text as numbers; NaN where it is none."""
    mark = DOTS_COMMA if decimal == "," else COMMAS_DOT
    out = np.full(len(fields), np.nan)
    for at, field in enumerate(fields):
        text = str(field).strip()
        if decimal == ",":
            if mark.fullmatch(text):
                text = text.replace(".", "")
            elif "." in text:
                continue
            text = text.replace(",", ".")
        elif "," in text:
            if not mark.fullmatch(text):
                continue
            text = text.replace(",", "")
        if PLAIN.fullmatch(text):
            out[at] = float(text)
    return out

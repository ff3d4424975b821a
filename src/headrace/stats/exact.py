"""Numbers that follow from fixed-point sums without losing their digits: pairs of floats, which have 106 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Pair = tuple[Floats, Floats]
"""A number as the sum of two, the second below the last bit of the first."""

_SPLITTER = 2.0**27 + 1


def variance(words: npt.NDArray[np.uint64], n: Any) -> Floats:
    """Return the variance with n - 1 of values whose sum and sum of squares are fixed-point numbers.

    sum(x**2) - sum(x)**2 / n is exact to 1e-31 of its terms, so that nothing is lost where they are nearly equal.

    Parameters
    ----------
    words
        Shape (k, 4) or wider: high and low word of the sum, then of the sum of squares; see `kernels.sums`.
    n
        Values, those that are 0 included: one number, or shape (k,).

    Returns
    -------
    Shape (k,); NaN for one value or none.

    Examples
    --------
    >>> words = np.array([[0, 3 << 60, 0, 5 << 60]], dtype=np.uint64)  # of 1 and 2
    >>> variance(words, 2), variance(words, 1)
    (array([0.5]), array([nan]))
    """
    n = np.asarray(n, dtype=np.float64)
    total, squares = pair(words[:, :2]), pair(words[:, 2:4])
    with np.errstate(divide="ignore", invalid="ignore"):
        high, low = _product(total[0], total[0])
        low = low + 2.0 * total[0] * total[1]
        quotient = high / n
        back, rest = _product(quotient, n)
        correction = ((high - back) - rest + low) / n
        first, second = _sum(squares[0], -quotient)
        left = first + (second + squares[1] - correction)
        return np.asarray(np.where(n > 1, np.maximum(left, 0.0) / (n - 1.0), np.nan))


def pair(words: npt.NDArray[np.uint64]) -> Pair:
    """Turn fixed-point numbers, shape (k, 2), into pairs."""
    upper = (words[:, 1] >> np.uint64(32)).astype(np.float64) * 2.0**-28
    lower = (words[:, 1] & np.uint64(0xFFFFFFFF)).astype(np.float64) * 2.0**-60
    eights = words[:, 0].view(np.int64).astype(np.float64) * 8.0
    high, rest = _sum(eights, upper)
    return _sum(high, rest + lower)


def _sum(a: Floats, b: Floats) -> Pair:
    """Return a + b, and what is lost of it."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(a: Floats, b: Floats) -> Pair:
    """Return a * b, and what is lost of it."""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _halves(a: Floats) -> Pair:
    times = _SPLITTER * a
    high = times - (times - a)
    return high, a - high

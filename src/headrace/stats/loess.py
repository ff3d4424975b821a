"""Local regression that does not crash: scikit-misc's loess, guarded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

JITTERS = tuple(10.0**k for k in range(-16, -2))
"""Amplitudes that are tried in turn, in units of the range of x."""
LEAST_POINTS = 4
"""scikit-misc's C code crashes the process on fewer points, or if the span holds none."""


class CannotFitError(ValueError):
    """There is no local regression of these points; says why."""


@dataclass(frozen=True)
class Trend:
    """A fitted curve.

    Parameters
    ----------
    fitted
        The curve at every x, shape (points,).
    jitter
        Largest change of x that was needed; 0 if none.
    """

    fitted: Floats
    jitter: float = 0.0


def trend(x: Floats, y: Floats, span: float, seed: int = 0) -> Trend:
    """Fit y on x by loess of degree 2, as `skmisc.loess.loess(x, y, span=span, degree=2)`.

    Many equal x (genes seen in one, two, three cells of a small batch) make the local equations
    singular. Then x is moved by seeded noise, from 1e-16 of its range on, by the least power of
    ten with which the fit succeeds.

    Raises
    ------
    CannotFitError
        If there are too few points, or no jitter up to 1e-3 of the range helps.

    References
    ----------
    Cleveland & Grosse 1991; the jitter follows `cellxgene_census`, where it is not seeded.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0, 1, 50)
    >>> round(float(trend(x, 2 * x, span=0.5).fitted[10] - 2 * x[10]), 9)
    0.0
    """
    n = len(x)
    if n < LEAST_POINTS or int(n * span) < 1:
        raise CannotFitError(f"{n} genes vary, too few for a trend with span={span:g}")
    width = float(x.max() - x.min())
    if width == 0.0:
        raise CannotFitError(f"the {n} genes that vary all have the same mean")
    noise = np.random.default_rng(seed).uniform(-1.0, 1.0, n)
    why = ""
    for amplitude in (0.0, *JITTERS):
        jitter = amplitude * width
        try:
            fitted = _loess(x + jitter * noise if jitter else x, y, span)
        except ValueError as error:
            why = str(error).strip("b'. ") or why
        else:
            if np.isfinite(fitted).all():
                return Trend(fitted, jitter)
            why = "the curve is not finite"
    raise CannotFitError(f"no trend can be fitted to the {n} genes that vary ({why})")


def _loess(x: Floats, y: Floats, span: float) -> Floats:
    from skmisc.loess import loess  # slow to import, and only this needs it

    model = loess(x, y, span=span, degree=2)
    model.fit()
    return np.asarray(model.outputs.fitted_values)

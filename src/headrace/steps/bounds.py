"""Bounds on numbers of cells and genes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Holds, Limit, StreamSpec
from ..errors import InputError, PlanError, nearest


def within(values: npt.NDArray[Any], low: float | None, high: float | None) -> npt.NDArray[np.bool_]:
    """Return which values are within the bounds, inclusive; NaN is not within any."""
    mask = np.ones(len(values), dtype=bool)
    if low is not None:
        mask &= values >= low
    if high is not None:
        mask &= values <= high
    return mask


def check_bounds(step: str, bounds: Any) -> None:
    """Refuse no bounds at all, negative ones, and a minimum above its maximum."""
    given = {k: v for k, v in vars(bounds).items() if v is not None}
    if not given:
        raise InputError(f"{step}: give at least one of {', '.join(vars(bounds))}")
    lows, highs = dict(given.pop("min", {})), dict(given.pop("max", {}))
    for name, value in given.items():
        if _is_no_number(value) or not value >= 0:
            raise InputError(f"{step}({name}={value!r}): a bound is a number that is not negative")
    for column, value in [*lows.items(), *highs.items()]:
        if _is_no_number(value) or np.isnan(value):
            raise InputError(f"{step}: the bound on {column!r} is {value!r}, not a number")
        if lows.get(column, value) > highs.get(column, value):
            raise InputError(f"{step}: the least {column!r}, {lows[column]}, is above the most, {highs[column]}")
    for what in {name.removeprefix("min_").removeprefix("max_") for name in given}:
        low, high = given.get(f"min_{what}"), given.get(f"max_{what}")
        if low is not None and high is not None and low > high:
            raise InputError(f"{step}: min_{what}={low} is above max_{what}={high}")


def _is_no_number(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, (int, float, np.number))


def check_numeric(step: str, column: str, spec: StreamSpec) -> None:
    """Raise `PlanError` unless `obs` has the column and it holds numbers."""
    if column not in spec.obs:
        raise PlanError(f"{step}: obs has no column {column!r}; {nearest(column, spec.obs)}")
    if not pd.api.types.is_numeric_dtype(spec.obs[column].dtype):
        raise PlanError(f"{step}: obs[{column!r}] is {spec.obs[column].dtype}, not a number")


def filtered(step: Any, spec: StreamSpec, *limits: Limit) -> StreamSpec:
    """Describe the stream of the cells that a filter leaves; how many these are is not known yet."""
    return replace(spec, filters=(*spec.filters, step.describe()), limits=(*spec.limits, *limits))


def need_cells(there: Any, spec: StreamSpec, what: str = "cell") -> None:
    """Raise if nothing came and filters may be why: it is they who are wrong, not the step that found nothing."""
    if not there and spec.filters:
        filters = " and ".join(spec.filters)
        raise InputError(f"no {what} of {spec.n_obs:,} passed the filters: {filters}; loosen them")


def check_zero(step: str, spec: StreamSpec) -> None:
    """Raise `PlanError` where being above zero means nothing."""
    if spec.holds == Holds.STANDARDIZED:
        raise PlanError(
            f"{step}: X is standardized here, so being above 0 and totals mean nothing; put it before that step"
        )

"""Measurements of an experiment, and layers of X."""

from __future__ import annotations

from typing import Any

from ...errors import InputError, nearest


def measurement_of(experiment: Any, name: str, where: str) -> Any:
    """Return a measurement; raise `InputError` if there is none of that name."""
    known = list(experiment.ms)
    if name not in known:
        raise InputError(f"{where} has no measurement {name!r}; {nearest(name, known)}")
    return experiment.ms[name]


def layer_of(measurement: Any, name: str, where: str) -> Any:
    """Return a sparse layer of X; raise `InputError` if there is none of that name."""
    known = list(measurement.X) if "X" in measurement else []
    if name not in known:
        raise InputError(f"{where} has no layer {name!r}; {nearest(name, known)}")
    array = measurement.X[name]
    if not getattr(array, "is_sparse", False):
        raise InputError(f"layer {name!r} of {where} is dense; headrace reads sparse layers")
    return array

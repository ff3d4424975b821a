"""What users give, checked by the types that the parameters are annotated with."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd

from ..errors import InputError

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False", NoneType: "None"}


FLOAT32 = (1e-30, 1e30)
"""What numbers that multiply or divide values may be, so that these stay numbers that float32 holds."""


class MisfitError(Exception):
    """A value is not of a type; the text says why, or nothing where the type says it all."""


def check_fields(one: Any) -> None:
    """Check the parameters of a dataclass by their types, and replace numpy's scalars by Python's.

    The first line of `__post_init__` of whatever users make.

    Raises
    ------
    InputError
        If one takes no such value.
    """
    hints = _hints(one.__class__)
    for field in fields(one):
        value = vars(one)[field.name]
        if field.init and field.name in hints and (field.default is MISSING or value is not field.default):
            fitted = _taken(value, hints[field.name], type(one).__name__, field.name)
            object.__setattr__(one, field.name, fitted)


def check_range(one: Any, name: str, least: float, most: float) -> None:
    """Raise `InputError` unless a parameter of a step is None or within two bounds, both inclusive."""
    value = vars(one)[name]
    if value is not None and not least <= value <= most:
        raise InputError(f"{type(one).__name__}({name}={value!r}): from {least:g} to {most:g}")


def check_call(function: Callable[..., Any], given: Mapping[str, Any], *but: str) -> None:
    """Check the arguments of a call, `locals()` at its beginning, by the types of the parameters.

    Parameters
    ----------
    but
        Parameters that the function judges by itself.
    """
    hints = _hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in hints and name in given and name not in but and given[name] is not parameter.default:
            _taken(given[name], hints[name], function.__name__, name)


def taken(value: Any, hint: Any) -> Any:
    """Return a value as a parameter of a type takes it, or raise `MisfitError`; types it does not know are not judged.

    Examples
    --------
    >>> taken(np.int64(3), int), taken(3.0, int), taken(["a"], str | tuple[str, ...])
    (3, 3, ('a',))
    >>> taken(True, int)
    Traceback (most recent call last):
        ...
    headrace.support.given.MisfitError
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _first(value, inner)
    if origin is Literal:
        if not isinstance(value, str):
            raise MisfitError
        return str(value)  # which words there are, the step says itself, and best
    if hint is Any:
        return value
    if hint in (None, NoneType):
        if value is not None:
            raise MisfitError
        return None
    if hint in _SCALARS:
        return _SCALARS[hint](value)
    kind = origin or hint
    if not isinstance(kind, type):
        return value
    if issubclass(kind, Mapping):
        return _mapping(value, inner)
    if kind is tuple or (issubclass(kind, Collection) and kind is not str and kind.__module__ == "collections.abc"):
        return _several(value, inner[0] if inner else Any)
    if not isinstance(value, kind):
        raise MisfitError
    return value


def wording(hint: Any) -> str:
    """Say what a type is.

    Examples
    --------
    >>> from collections.abc import Sequence
    >>> wording(float | None), wording(Sequence[str] | Literal["all"])
    ('a number or None', "a list of text or 'all'")
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(wording(one) for one in inner))
    if origin is Literal:
        return " or ".join(repr(one) for one in inner)
    if hint in WORDS or hint is Any:
        return WORDS.get(hint, "anything")
    kind = origin or hint
    if not isinstance(kind, type):
        return str(kind)
    if issubclass(kind, Mapping):
        return "a dictionary"
    if kind is tuple or (issubclass(kind, Collection) and kind.__module__ == "collections.abc"):
        one = wording(inner[0]).removeprefix("a ") if inner and inner[0] is not Any else "value"
        return f"a list of {one}" if "text" in one else f"a list of {one}s"
    return {"PathLike": "a path", "Callable": "a function"}.get(kind.__name__, f"a {kind.__name__}")


@cache
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of)


def _taken(value: Any, hint: Any, what: str, name: str) -> Any:
    try:
        return taken(value, hint)
    except MisfitError as misfit:
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}..."
        why = f"; {misfit}" if str(misfit) else f", not {type(value).__name__}"
        if isinstance(value, str) and not value and NoneType in get_args(hint):
            why += ", as an unset variable is: leave it out, or give None"
            why += ", which takes all cells" if name == "obs_filter" else ""
        raise InputError(f"{what}({name}={shown}): it takes {wording(hint)}{why}") from None


def _first(value: Any, hints: Iterable[Any]) -> Any:
    """Return the value as the first of several types takes it."""
    why = ""
    for hint in hints:
        try:
            return taken(value, hint)
        except MisfitError as misfit:
            why = why or str(misfit)
    raise MisfitError(why)


def _number(value: Any) -> float:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MisfitError
    try:
        if math.isnan(value):
            raise MisfitError("NaN is no number")
    except OverflowError:
        raise MisfitError("it is too large") from None
    return value


def _whole(value: Any) -> int:
    number = _number(value)
    if isinstance(number, float) and not number.is_integer():
        raise MisfitError
    if not -(2**63) <= number < 2**63:
        raise MisfitError("it is too large")
    return int(number)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MisfitError
    if not value:
        raise MisfitError("it is empty")
    if "\0" in value:
        raise MisfitError("it has a NUL (\\0) in it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MisfitError("it is no Unicode") from None
    return str(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise MisfitError
    return bool(value)


def _real(value: Any) -> float:
    """Return a number; whole ones that no int64 holds, which compiled loops do not take, as float."""
    number = _number(value)
    return number if abs(number) < 2**63 else float(number)


_SCALARS: dict[Any, Callable[[Any], Any]] = {float: _real, int: _whole, str: _text, bool: _truth}


def _mapping(value: Any, inner: tuple[Any, ...]) -> dict[Any, Any]:
    if isinstance(value, pd.Series):
        value = value.to_dict()
    if not isinstance(value, Mapping):
        raise MisfitError
    key, one = inner if len(inner) == 2 else (Any, Any)
    return {taken(name, key): taken(item, one) for name, item in value.items()}


def _several(value: Any, hint: Any) -> Any:
    """Return several values as a tuple; long arrays of whole numbers, and what is not judged, as they are."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise MisfitError
    if hint is Any or (hint is int and isinstance(value, range)):
        return value
    if isinstance(value, (np.ndarray, pd.Series, pd.Index)):
        if value.ndim != 1:
            raise MisfitError("it has more than one dimension")
        if hint is int and getattr(value.dtype, "kind", "") in "iu":
            return value
    return tuple(taken(one, hint) for one in value)

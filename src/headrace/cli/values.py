"""Checks of the values of a recipe file by the types of the parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from ..errors import InputError, nearest

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def checked(given: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values as the parameters want them: a whole number becomes a float where a float is wanted.

    Parameters
    ----------
    given
        Values by parameter, as TOML has them.
    hints
        The type of each parameter there is.
    where
        What has these parameters, for the message.

    Raises
    ------
    InputError
        If there is no such parameter, or it takes no such value.

    Examples
    --------
    >>> checked({"target_sum": 10000}, {"target_sum": float | None}, "step 1")
    {'target_sum': 10000.0}
    >>> checked({"target": 10000}, {"target_sum": float | None}, "step 1")
    Traceback (most recent call last):
        ...
    headrace.errors.InputError: step 1: there is no 'target'; did you mean 'target_sum'?
    """
    for name, value in given.items():
        if name not in hints:
            raise InputError(f"{where}: there is no {name!r}; {nearest(name, hints)}")
        if not fits(value, hints[name]):
            choice = _choices(hints[name])
            hint = f"; {nearest(value, choice)}" if choice and isinstance(value, str) else ""
            raise InputError(f"{where}: {name} = {value!r}, but it takes {wording(hints[name])}{hint}")
    return {name: float(value) if _wants_float(value, hints[name]) else value for name, value in given.items()}


def read_text(path: Path, what: str, most: int) -> str:
    """Return a small file as text, with or without a byte order mark.

    Raises
    ------
    InputError
        If it cannot be read, is larger than `most` bytes, or is no UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > most:
        raise InputError(f"{path} is no {what}: it has more than {most >> 20} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no {what}: it cannot be read as text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(f"{path} is no {what}: it has a NUL (\\0) in it; save it as UTF-8 text")
    return text


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type; types that TOML has not are not judged.

    Examples
    --------
    >>> fits(3, float | None), fits("3", float | None), fits(["a"], list[str]), fits("a", Literal["a", "b"])
    (True, False, True, True)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint in (None, NoneType):
        return False  # TOML has no word for it: see `none_is_false`
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, PathLike):
        return False  # written as text
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return isinstance(value, dict) and (len(inner) != 2 or all(fits(v, inner[1]) for v in value.values()))
    if isinstance(kind, type) and issubclass(kind, Collection):
        return isinstance(value, list) and (not inner or all(fits(one, inner[0]) for one in value))
    return True


def none_is_false(hint: Any) -> bool:
    """Return whether `false` says None: of a parameter that may be None, and takes no true or false.

    Examples
    --------
    >>> none_is_false(str | None), none_is_false(bool | None), none_is_false(str)
    (True, False, False)
    """
    inner = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return NoneType in inner and bool not in inner


def wording(hint: Any) -> str:
    """Say what a type is to someone who writes TOML.

    Examples
    --------
    >>> wording(float | None), wording(list[str] | Literal["all"])
    ('a number', "a list of text or 'all'")
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(wording(one) for one in inner if one is not NoneType))
    if origin is Literal:
        return " or ".join(repr(one) for one in inner)
    if hint in WORDS:
        return WORDS[hint]
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a table"
    if isinstance(kind, type) and issubclass(kind, PathLike):
        return "text"
    one = wording(inner[0]).removeprefix("a ") if inner else "value"
    return f"a list of {one}" if one == "text" else f"a list of {one}s"


def _choices(hint: Any) -> list[str]:
    """Return the words that a type allows, wherever they are in it."""
    if get_origin(hint) is Literal:
        return [one for one in get_args(hint) if isinstance(one, str)]
    if get_origin(hint) in (Union, UnionType):
        return [word for one in get_args(hint) for word in _choices(one)]
    return []


def _wants_float(value: Any, hint: Any) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return float in kinds and int not in kinds

"""What all contracts share: a misspelt name is refused, and a dataclass can be shown as it is written."""

from __future__ import annotations

import difflib
import inspect
from abc import ABC
from dataclasses import fields, is_dataclass
from typing import Any

PAGES = tuple(f"{__package__}.{name}" for name in ("afterwards", "contract", "preparer", "protocols"))
"""The modules that define the contracts."""


class Contract(ABC):  # noqa: B024 # what is abstract differs from contract to contract
    """Refuses a misspelt name in a class that implements a contract, when the class is defined."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        known = {name for base in cls.__mro__ if base.__module__ in PAGES for name in vars(base)}
        own, annotated = set(vars(cls)), set(inspect.get_annotations(cls))
        for name in sorted(own - known - annotated):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            if close and not name.startswith("_"):
                raise TypeError(f"{cls.__name__}.{name} is not in the contract: did you mean {close[0]!r}?")
        for name in sorted(annotated & known - own):
            raise TypeError(f"{cls.__name__}.{name} is part of the contract: give the field a default")


class Shown(Contract):
    """What users see by name, and as they write it."""

    @property
    def label(self) -> str:
        """The name that the user knows it by."""
        return type(self).__name__

    def describe(self) -> str:
        """Return it as it is written in Python."""
        return written(self)


def written(step: Any) -> str:
    """Return a step as it is written in Python, with the parameters that differ from their defaults."""
    if not is_dataclass(step):
        return type(step).__name__
    given = [f"{f.name}={value!r}" for f in fields(step) if (value := vars(step)[f.name]) != f.default]
    return f"{type(step).__name__}({', '.join(given)})"

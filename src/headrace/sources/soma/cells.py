"""Filters of cells: the categories and values that obs has."""

from __future__ import annotations

import re
from typing import Any

from ...errors import nearest
from ..compact import Joinids
from .arrays import Frame
from .location import reading
from .tables import to_frame


def levels(obs: Frame, name: str) -> list[Any]:
    """Return the categories of a column, in their order."""
    return list(to_frame(obs.empty([name]))[name].cat.categories)


MANY = 20_000
"""A column of more values than that names the cells; these are not checked for spelling."""

_TEXT = r"""'[^']*'|"[^"]*\""""
_COMPARED = re.compile(rf"""([A-Za-z_]\w*)\s*(?:==|\bin\b)\s*({_TEXT}|\[(?:[^\]'"]|{_TEXT})*\])""")


def absent_values(obs: Frame, value_filter: str, among: str | None, joinids: Joinids | None, where: str) -> str:
    """Say which values a filter asks for that no cell has, and what comes near, as the tail of a message.

    Parameters
    ----------
    value_filter
        A filter that no cell passes.
    among
        A filter of the cells whose values are of interest; None for all.

    Returns
    -------
    Nothing if each value occurs, or there are no such cells.
    """
    names = obs.names
    asked = [(name, re.findall(_TEXT, values)) for name, values in _COMPARED.findall(value_filter) if name in names]
    columns = list(dict.fromkeys(name for name, _ in asked))
    if not columns:
        return ""
    found: dict[str, set[str]] = {name: set() for name in columns}
    rows = None if joinids is None else joinids[:]
    with reading(f"{where}/obs"):
        for table in obs.read(columns, rows, among):
            for name in columns:
                if len(found[name]) <= MANY:
                    found[name].update(map(str, table[name].unique().to_pylist()))
    absent = [(name, text[1:-1]) for name, texts in asked for text in texts if text[1:-1] not in found[name]]
    return "".join(
        f"; {name} {value!r} does not occur there, {nearest(value, sorted(found[name]))}"
        for name, value in absent[:3]
        if 0 < len(found[name]) <= MANY
    )

"""Selection of cells by obs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import InputError, SourceError, nearest
from ..tiles.layout import Rows
from .arrays import Frame
from .filters import read_filter
from .location import reading
from .tables import to_frame

Joinids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """The cells of a query.

    Parameters
    ----------
    joinids
        Their soma_joinids, increasing, shape (n_obs,).
    nnz
        How many genes each has in X/raw, over all genes, shape (n_obs,), if obs tells.
    columns
        Further columns of obs that were asked for, row for row.
    """

    joinids: Joinids
    nnz: npt.NDArray[np.int64] | None
    columns: pa.Table


def select_cells(
    obs: Frame, value_filter: str | None, joinids: Joinids | None, columns: Sequence[str], where: str
) -> Cells:
    """Find the cells that match a SOMA value filter and are among the joinids, if any are given.

    Raises
    ------
    InputError
        If the filter cannot be parsed or names no column; if a joinid is not there, or is given twice.
    SourceError
        If two cells have one joinid.
    """
    names, schema = obs.names, obs.array.schema
    chosen = None if value_filter is None else read_filter(value_filter, schema, partial(_levels, obs), where)
    wanted = ["soma_joinid", *(["nnz"] if "nnz" in names else []), *columns]
    if chosen is not None and not chosen.exact:
        wanted += chosen.columns
    rows: Rows = None
    if joinids is not None:
        if not len(joinids):
            raise InputError("obs_joinids is empty")
        if len(np.unique(joinids)) < len(joinids):
            values, counts = np.unique(joinids, return_counts=True)
            raise InputError(f"obs_joinids has {values[counts > 1][0]} more than once")
        first, last = obs.array.domain[0]
        outside = joinids[(joinids < first) | (joinids > last)]
        if len(outside):
            raise InputError(f"{len(outside)} of {len(joinids)} obs_joinids are not in {where}/obs, e.g. {outside[0]}")
        rows = np.sort(joinids)
    with reading(f"{where}/obs"):
        said = None if chosen is None else chosen.soma
        table = pa.concat_tables(obs.read(list(dict.fromkeys(wanted)), rows, said))
    if chosen is not None and not chosen.exact:
        table = table.filter(pa.array(chosen.passed(table)))
    found = table["soma_joinid"].to_numpy()
    if len(found) > 1 and not (np.diff(found) > 0).all():
        order = np.argsort(found, kind="stable")
        table, found = table.take(order), found[order]
        if (np.diff(found) == 0).any():
            twice = found[1:][np.diff(found) == 0][0]
            raise SourceError(f"{where}/obs has several cells with the soma_joinid {twice}: which values are whose?")
    if joinids is not None and value_filter is None and len(found) < len(joinids):
        missing = np.setdiff1d(joinids, found)
        raise InputError(f"{len(missing)} of {len(joinids)} obs_joinids are not in {where}/obs, e.g. {missing[0]}")
    nnz = table["nnz"].to_numpy().astype(np.int64) if "nnz" in names else None
    return Cells(found, nnz, table.select(list(columns)))


def _levels(obs: Frame, name: str) -> list[Any]:
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
    rows = None if joinids is None else np.sort(joinids)
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

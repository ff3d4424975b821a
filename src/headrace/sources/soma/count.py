"""Cells of a Census counted by columns of obs, without a query."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ...errors import InputError
from ..groups import N_OBS, check_by
from .arrays import Frame
from .cells import absent_values
from .filters import parsed
from .selection import PRIMARY, Selection


def cell_filter(dataset_ids: Sequence[str] | None, obs_filter: str | None, primary: bool) -> str | None:
    """Return the SOMA value filter of the cells of some datasets that pass another filter, without duplicates.

    Examples
    --------
    >>> cell_filter(["a-1"], "sex == 'male'", True)
    "dataset_id in ['a-1'] and (sex == 'male') and is_primary_data == True"
    """
    parts = []
    if dataset_ids is not None:
        listed = ", ".join(f"'{one}'" for one in dataset_ids)
        parts.append(f"dataset_id in [{listed}]")
    if obs_filter is not None:
        parsed(obs_filter)  # by itself: what closes our parenthesis is no filter
        parts.append(f"({obs_filter})" if parts or primary else obs_filter)
    if primary:
        parts.append(f"{PRIMARY} == True")
    return " and ".join(parts) or None


def count_cells(
    obs: Frame,
    dataset_ids: Sequence[str] | None,
    obs_filter: str | None,
    primary_only: bool,
    by: str | Sequence[str] | None,
    where: str,
) -> pd.DataFrame:
    """Count the cells of each group; see `Census.count`.

    Raises
    ------
    InputError
        If a column is not there, or no cell matches since a value that is asked for does not occur.
    """
    names = check_by(by, obs.names, "count", f"{where}/obs")
    asked = cell_filter(dataset_ids, obs_filter, False)
    table = Selection(obs, asked, None, primary_only, (), where).count(names).table(PRIMARY in obs.names)
    if obs_filter is not None and not table[N_OBS].sum():
        absent = absent_values(obs, obs_filter, cell_filter(dataset_ids, None, False), None, where)
        if absent:
            raise InputError(f"no cell of {where} matches: {asked}{absent}")
    return table

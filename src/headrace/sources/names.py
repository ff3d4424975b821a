"""Which column genes are called by: their symbols, as most who go on from a file expect them, or their ids."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from ..errors import InputError, nearest


def named(var: pd.DataFrame, column: str, where: str) -> pd.DataFrame:
    """Return var indexed by a column of names, made unique; what was the index is in `feature_id`.

    A gene without a name keeps its id.

    Examples
    --------
    >>> var = pd.DataFrame({"feature_name": ["MATR3", "TBCE", "MATR3"]}, index=["E1", "E2", "E3"])
    >>> named(var, "feature_name", "var")["feature_id"].to_dict()
    {'MATR3': 'E1', 'TBCE': 'E2', 'MATR3-1': 'E3'}
    """
    if column not in var:
        raise InputError(f"var_names={column!r}: {where} has no such column; {nearest(column, var.columns)}")
    ids = np.asarray(var.index, dtype=object)
    names = var[column].astype(object).to_numpy(dtype=object, copy=True)
    missing = np.asarray(pd.isna(names), dtype=bool) | (names == "")
    names[missing] = ids[missing]
    known = "feature_id" in var and (var["feature_id"].astype(str).to_numpy() == ids.astype(str)).all()
    if not known:  # a column of that name that holds something else stays, under another one
        var = var.rename(columns={"feature_id": _free(var, "feature_id_before")}) if "feature_id" in var else var
        var = var.assign(feature_id=ids)
    return var.set_index(pd.Index(unique(list(map(str, names))), dtype=object))


def reindexed(var: pd.DataFrame, column: str, where: str) -> pd.DataFrame:
    """Return var indexed by a column; the names it had become one."""
    if column not in var:
        raise InputError(f"var_index={column!r}: {where} has no such column; {nearest(column, var.columns)}")
    own = np.asarray(var.index, dtype=object)
    known = any(
        var[name].astype(object).tolist() == own.tolist() for name in ("feature_name", "var_names") if name in var
    )
    name = "feature_name" if "feature_name" not in var else _free(var, "var_names")
    kept = var if known else var.assign(**{name: own})
    return kept.set_index(pd.Index(var[column].astype(str).to_numpy(object), name=column)).drop(columns=column)


def unique(names: list[str]) -> list[str]:
    """Return names of which each comes once: "-1", "-2", ... after the first, as `scanpy`'s `var_names_make_unique`.

    Examples
    --------
    >>> unique(["a", "a", "a-1", "a"])
    ['a', 'a-2', 'a-1', 'a-3']
    """
    taken, seen, times = set(names), set[str](), Counter[str]()
    out = []
    for name in names:
        new = name
        while new in seen or (new is not name and new in taken):
            times[name] += 1
            new = f"{name}-{times[name]}"
        seen.add(new)
        taken.add(new)
        out.append(new)
    return out


def _free(var: pd.DataFrame, name: str) -> str:
    """Return a name that no column has."""
    while name in var:
        name += "_before"
    return name

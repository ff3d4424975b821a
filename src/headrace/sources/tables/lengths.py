"""Lengths of genes from a table or a Census, found by their ids."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import InputError, nearest
from ...protocols import Source

VERSION = re.compile(r"^(ENS[A-Z]*G\d+)\.\d+(_PAR_Y)?$")


def gene_lengths(lengths: Any, var: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Find the length of every gene, NaN where there is none; raise if there is none at all."""
    if isinstance(lengths, str):
        if lengths not in var:
            raise InputError(f"lengths={lengths!r}: genes have no such column; {nearest(lengths, var.columns)}")
        return np.asarray(pd.to_numeric(var[lengths], errors="coerce"), dtype=np.float64)
    table = lengths.spec.var if isinstance(lengths, Source) else lengths
    if isinstance(table, pd.DataFrame):
        if "feature_length" not in table:
            raise InputError(f"lengths: the table has no column 'feature_length'; {nearest('feature_length', table)}")
        table = (table.set_index("feature_id") if "feature_id" in table else table)["feature_length"]
    if not isinstance(table, pd.Series):
        raise InputError(f"lengths: a column's name, a Series, a DataFrame or a query, not {type(lengths).__name__}")
    known = table.set_axis(strip_versions(table.index))
    known = known[~known.index.duplicated()]
    found = pd.to_numeric(known.reindex(strip_versions(var.index)), errors="coerce").to_numpy(np.float64)
    if np.isnan(found).all():
        raise InputError(
            f"lengths: none of {len(var)} genes is in the table, e.g. {var.index[0]!r}; it has {known.index[0]!r}"
        )
    return np.asarray(found)


def strip_versions(ids: pd.Index) -> pd.Index:
    """Return Ensembl ids without their version, others as they are.

    Examples
    --------
    >>> strip_versions(pd.Index(["ENSG00000000003.15", "FBgn0000003"])).tolist()
    ['ENSG00000000003', 'FBgn0000003']
    """
    return pd.Index([VERSION.sub(r"\1", str(name)) for name in ids])

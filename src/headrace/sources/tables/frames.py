"""DataFrames, AnnData and .h5ad files as people have them, made ids, numbers and descriptions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...chunk import Holds
from ...errors import CountsError, InputError, nearest
from ..h5ad.open import open_h5ad, refuse_if_no_counts
from ..summary import SummaryRowsWarning
from .numerals import is_number


def described(data: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return numbers (float64), what describes rows, and what describes columns, of a DataFrame.

    Ids may be in the index, in the first level of a MultiIndex that has no duplicates, or, where the index only counts
    the rows, in the first column of text without duplicates. Other columns of text describe the rows.

    Raises
    ------
    InputError
        If no level is without duplicates. `CountsError`: a value is missing, or no number.
    """
    columns, below = _flat(data.columns, "columns")
    data = data.set_axis(columns, axis=1)
    rows, about = _flat(data.index, "rows")
    counted = isinstance(data.index, pd.RangeIndex) or (
        data.index.dtype.kind in "iu" and data.index.equals(pd.Index(range(len(data))))
    )
    texts = [at for at in range(data.shape[1]) if _is_text(data.iloc[:, at])]
    if counted and texts:
        ids = next((at for at in texts if data.iloc[:, at].notna().all() and data.iloc[:, at].is_unique), None)
        if ids is None:
            values = data.iloc[:, texts[0]]
            raise InputError(
                f"the ids of column {data.columns[texts[0]]!r} are not unique: {values[values.duplicated()].iloc[0]!r} "
                "comes more than once; rename or sum them"
            )
        rows = pd.Index(data.iloc[:, ids].astype(str), dtype=object)
        texts.remove(ids)
        chosen = [at for at in range(data.shape[1]) if at not in (*texts, ids)]
    else:
        chosen = [at for at in range(data.shape[1]) if at not in texts]
    about = pd.DataFrame(
        {**{k: v.to_numpy() for k, v in about.items()}, **{data.columns[a]: data.iloc[:, a].to_numpy() for a in texts}},
        index=rows,
    )
    if not chosen and data.shape[1]:
        chosen = list(range(data.shape[1]))  # no numbers at all: name the first
        about = about.iloc[:, :0]
    numbers = np.empty((len(data), len(chosen)))
    for to, at in enumerate(chosen):
        column = data.iloc[:, at]
        if column.dtype.kind in "iuf" and isinstance(column.dtype, np.dtype):
            numbers[:, to] = column.to_numpy()
        else:
            numbers[:, to] = (
                pd.to_numeric(column.astype(object), errors="coerce")
                .astype(float)
                .to_numpy(np.float64, na_value=np.nan)
            )
    bad = np.argwhere(np.isnan(numbers))
    if len(bad):
        row, to = bad[0]
        raise CountsError(
            f"row {rows[row]!r}, column {data.columns[chosen[to]]!r}: {data.iat[row, chosen[to]]!r} is no count"
        )
    return pd.DataFrame(numbers, rows, data.columns[chosen]), about, below.iloc[chosen]


def _flat(index: pd.Index, what: str) -> tuple[pd.Index, pd.DataFrame]:
    if index.isna().any() if not isinstance(index, pd.MultiIndex) else False:
        raise InputError(f"the {what} have a name that is missing, at {int(index.isna().argmax()) + 1}")
    if not isinstance(index, pd.MultiIndex):
        names = [one.decode() if isinstance(one, bytes) else str(one) for one in index]
        flat = pd.Index(names, dtype=object)
        return flat, pd.DataFrame(index=flat)
    levels = [index.get_level_values(at) for at in range(index.nlevels)]
    ids = next((at for at, level in enumerate(levels) if level.is_unique and level.notna().all()), None)
    if ids is None:
        raise InputError(f"no level of the MultiIndex of the {what} is without duplicates; make one of ids first")
    flat = pd.Index(levels[ids].astype(str), dtype=object)
    rest = {
        str(level.name if level.name is not None else f"level_{at}"): level.to_numpy()
        for at, level in enumerate(levels)
        if at != ids
    }
    return flat, pd.DataFrame(rest, index=flat)


def _is_text(column: pd.Series) -> bool:
    """Return whether a column holds words, not numbers, and so describes its rows."""
    if column.dtype.kind in "iufb" and not isinstance(column.dtype, pd.CategoricalDtype):
        return False
    there = column.dropna()
    words = sum(isinstance(one, str) and not is_number(one) for one in there)
    return bool(len(there)) and words * 2 > len(there)


def matrix_of(adata: Any, layer: str | None, raw: bool, sure: bool) -> tuple[Any, pd.DataFrame]:
    """Return a matrix of an AnnData, and its table of genes.

    Raises
    ------
    InputError
        If there is no such matrix. `CountsError`: X holds no counts, but another matrix does, or they are logarithms.
    """
    if raw and layer is not None:
        raise InputError(f"raw=True reads raw.X, layer={layer!r} a layer: give one of them")
    if getattr(adata, "isbacked", False):
        adata = adata.to_memory()
    if raw:
        if adata.raw is None:
            raise InputError("raw=True: the AnnData has no raw")
        return adata.raw.X, adata.raw.var
    layers = [name for name in adata.layers if name is not None]  # None is X, as anndata has it from 0.13 on
    if layer is not None:
        if layer not in layers:
            raise InputError(f"layer={layer!r}: there is no such layer; {nearest(layer, layers)}")
        return adata.layers[layer], adata.var
    X = adata.X
    if X is None:
        raise InputError(f"the AnnData has no X; its layers: {', '.join(layers) or 'none'}")
    broken = _no_count(X)
    if broken is not None and not sure:
        others = [f"layer={name!r}" for name in layers if _no_count(adata.layers[name]) is None]
        if adata.raw is not None and _no_count(adata.raw.X) is None:
            others.append("raw=True")
        if others or "log1p" in adata.uns:
            raise CountsError(
                f"X holds no counts, but values such as {broken:g}. "
                + (f"Whole numbers are what {' and '.join(others)} has: ask for it. " if others else "")
                + "To read X as expected counts all the same: holds='counts'"
            )
    return X, adata.var


@dataclass(frozen=True)
class Samples:
    """Samples x genes of an .h5ad file, with what `open_counts` asks of an AnnData."""

    X: sparse.csr_array
    obs: pd.DataFrame
    var: pd.DataFrame

    @property
    def obs_names(self) -> pd.Index:
        """The ids of samples."""
        return self.obs.index


def read_h5ad(path: Path, layer: str | None, raw: bool, sure: bool) -> Samples:
    """Read a matrix of an .h5ad file into memory, and nothing outside that file.

    Parameters
    ----------
    sure
        Whether the user says that it holds counts, whole or not.

    Raises
    ------
    CountsError
        If not said, and values are not whole or negative; names the matrices that are.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SummaryRowsWarning)  # they are left out further on, with their sums
        opened = open_h5ad(path, layer=layer, raw=raw, holds=None if not sure else "normalized")
    source = replace(opened, holds=Holds.UNKNOWN, rounding="warn", splits=False)
    chunks = list(source.read(source.refs(source.most_nnz)))
    X: Any = sparse.vstack([chunk.X for chunk in chunks], format="csr")
    if not sure:
        refuse_if_no_counts(source, X.data)
    if source.exact.values:
        X = X.astype(np.float64).tolil()
        for place, value in source.exact.values.items():
            X[place] = value
        X = sparse.csr_array(X)
    return Samples(X, pd.concat([chunk.obs for chunk in chunks]), source.var)


def _no_count(X: Any) -> float | None:
    """Return a value that is no whole number from 0 on, or None."""
    values = np.asarray(X.data if hasattr(X, "indptr") else X).reshape(-1)
    bad = values[~((values >= 0) & (values == np.floor(values)))]
    return float(bad[0]) if len(bad) else None

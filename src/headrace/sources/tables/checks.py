"""Counts checked: what is none is named by sample and gene; what is no gene is left out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ...chunk import Holds
from ...errors import CountsError, FractionalCountsWarning, InputError, RoundedCountsWarning
from ...stats.rates import from_dense
from ...support.places import absolute
from ..arrays import rounded
from ..summary import SummaryRowsWarning, is_summary
from .annotations import refuse_twice
from .load import in_folder
from .text import is_pipe


def files_of(*given: Any) -> tuple[Path, ...]:
    """Return those of what was given that are files, absolute."""
    out: dict[Path, None] = {}
    for one in given:
        many = (
            list(one.values()) if isinstance(one, Mapping) else list(one) if isinstance(one, (list, tuple)) else [one]
        )
        for path in many:
            if isinstance(path, (str, os.PathLike)) and not is_pipe(path):
                found = Path(path)
                inside = in_folder(found) if found.is_dir() else [found] if found.is_file() else []
                out |= dict.fromkeys(absolute(file) for file in inside)
    return tuple(out)


def without_summary(numbers: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out the summary rows of a counter (genes are rows); return their sums, samples x rows, beside the genes."""
    mask = is_summary(numbers.index.astype(str))
    if not mask.any():
        return numbers, pd.DataFrame(index=numbers.columns)
    gone = numbers[mask]
    _say_left_out(gone, all_gone=bool(mask.all()))
    return numbers[~mask], gone.T


def of_genes(X: Any, obs: pd.DataFrame, var: pd.DataFrame) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Leave the summary rows of a counter out of samples x genes; their sums go to obs."""
    mask = is_summary(var.index.astype(str))
    if not mask.any():
        return X, obs, var
    columns = X.tocsc()[:, mask].toarray() if sparse.issparse(X) else np.asarray(X)[:, mask]
    columns = columns.astype(np.float64) if columns.dtype == np.float32 else columns
    gone = pd.DataFrame(columns.T, var.index[mask].astype(str), obs.index)
    _say_left_out(gone, all_gone=bool(mask.all()))
    X = X.tocsc()[:, ~mask].tocsr() if sparse.issparse(X) else np.asarray(X)[:, ~mask]
    return X, obs.drop(columns=[name for name in gone.index if name in obs]).join(gone.T), var[~mask]


def _say_left_out(gone: pd.DataFrame, all_gone: bool) -> None:
    refuse_twice(gone.index, "the summary rows of a counter")
    if all_gone:
        raise InputError(f"there are no genes, only summary rows of a counter: {', '.join(gone.index[:5])}")
    said = ", ".join(f"{name} ({total:,.0f})" for name, total in gone.sum(axis=1).items())
    warnings.warn(
        f"{len(gone)} rows are no genes, but a counter's summary, and are left out: {said} counts; their sums "
        "by sample are in obs",
        SummaryRowsWarning,
        stacklevel=4,
    )


def checked(X: Any, samples: pd.Index, genes: pd.Index, quiet: bool = False) -> tuple[sparse.csr_array, Holds]:
    """Return the counts as CSR, or raise and name sample and gene of what is none."""
    refuse_twice(samples, "the ids of samples")
    refuse_twice(genes, "the ids of genes")
    for names, what in ((samples, "sample"), (genes, "gene")):
        wrong = next((name for name in names.astype(str) if "\0" in name), None)
        if wrong is not None:
            raise InputError(f"{what} {wrong!r} has a NUL (\\0) in it, which no file can hold; rename it")
    X = sparse.csr_array(X) if sparse.issparse(X) else from_dense(np.asarray(X), np.float64)
    X.sum_duplicates()
    values = X.data

    def where(at: int) -> str:
        row = int(np.searchsorted(X.indptr, at, side="right")) - 1
        return f"sample {samples[row]!r}, gene {genes[X.indices[at]]!r}"

    bad = np.flatnonzero(~((values >= 0) & np.isfinite(values)))
    if len(bad):
        what = "the count is missing" if np.isnan(values[bad[0]]) else f"{values[bad[0]]:g} is no count"
        raise CountsError(f"{where(bad[0])}: {what}; counts are numbers from 0 on")
    broken = np.flatnonzero(values != np.floor(values))
    if len(broken) and not quiet:
        guess = "; the largest is so small that they may be logarithms" if values.max() < 30 else ""
        warnings.warn(
            f"{len(broken)} counts are not whole, e.g. {values[broken[0]]:g} in {where(broken[0])}: taken for expected "
            f"counts{guess}",
            FractionalCountsWarning,
            stacklevel=3,
        )
    large = rounded(values)
    if len(large):
        warnings.warn(
            f"{len(large)} counts are no float32 numbers and are rounded, by at most 6e-8 of their value: "
            f"{values[large[0]]:.0f} in {where(large[0])}",
            RoundedCountsWarning,
            stacklevel=3,
        )
    return X, Holds.UNKNOWN if len(broken) else Holds.COUNTS

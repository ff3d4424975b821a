"""Normalisation factors of samples: edgeR's four methods, and DESeq2's median of ratios.

Each method is written as a generator, as a `Fit` is: what it yields is summed up over all samples
before it goes on. Samples may come in any number and order; only one row is ever held, the reference.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import fsum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Chunk, csr
from ..errors import InputError, nearest
from ..protocols import Accumulator
from . import kernels
from .rates import from_dense
from .samples import Floats, Logs, LogSums, OneRow, Overview, Overviews, PerSample

Method = Literal["TMM", "TMMwsp", "RLE", "upperquartile", "ratio", "poscounts", "none"]
Program = Generator[Accumulator[Any], Any, pd.DataFrame]

USES = {
    "TMM": ("ref_column", "logratio_trim", "sum_trim", "do_weighting", "acutoff"),
    "TMMwsp": ("ref_column", "logratio_trim", "sum_trim", "do_weighting"),
    "RLE": (),
    "upperquartile": ("p",),
    "ratio": (),
    "poscounts": (),
    "none": (),
}
"""The methods, and which parameters have a meaning for them."""


@dataclass(frozen=True)
class Settings:
    """The parameters of all methods, named and preset as edgeR's `calcNormFactors`; see `NormFactors`."""

    method: Method = "TMM"
    ref_column: str | None = None
    logratio_trim: float = 0.3
    sum_trim: float = 0.05
    do_weighting: bool = True
    acutoff: float = -1e10
    p: float = 0.75

    @property
    def passes(self) -> int:
        """Passes of `factors` over all samples."""
        if self.method in ("TMM", "TMMwsp") and self.ref_column is not None:
            return 2
        return {"TMM": 4, "TMMwsp": 3, "none": 1}.get(self.method, 2)


def factors(settings: Settings, n_vars: int) -> Program:
    """Yield accumulators; return a table indexed by sample.

    Its columns: `libsize`, `norm_factors` (geometric mean 1), `effective_libsize` (their product),
    and `size_factors` for "ratio" and "poscounts". Where edgeR returns NaN or Inf, so does this.
    """
    if settings.method in ("TMM", "TMMwsp"):
        table = yield from _against_reference(settings, n_vars)
    elif settings.method == "upperquartile":
        seen: Overview = yield Overviews(n_vars)
        quantiles = yield PerSample(_quantiles(seen.n_seen, settings.p))
        table = seen.table.assign(raw=quantiles["value"] / seen.table["libsize"], plain=seen.n_seen == 0)
    elif settings.method == "none":
        seen = yield Overviews(n_vars)
        table = seen.table.assign(raw=1.0)
    else:
        table = yield from _median_ratios(settings.method, n_vars)
    raw = np.ones(len(table)) if len(table) == 1 or table.get("plain", np.zeros(1)).any() else table["raw"].to_numpy()
    out = table[["libsize"]].assign(norm_factors=_scaled(raw))
    out["effective_libsize"] = out["libsize"] * out["norm_factors"]
    return out.assign(size_factors=table["size_factors"]) if "size_factors" in table else out


def norm_factors(counts: Any, settings: Settings | None = None) -> pd.DataFrame:
    """Compute the factors of samples held in memory, in float64.

    Parameters
    ----------
    counts
        Samples x genes: a DataFrame, an array, or anything scipy makes a CSR matrix of.
    settings
        Method and parameters; TMM by default.

    Returns
    -------
    DataFrame in the order of the samples; see `factors`.

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.array([[10, 20, 30, 40], [40, 80, 120, 160], [11, 19, 31, 90]])
    >>> norm_factors(counts)["norm_factors"].round(3).tolist()
    [1.13, 1.13, 0.784]
    """
    names = counts.index if isinstance(counts, pd.DataFrame) else pd.RangeIndex(counts.shape[0])
    if sparse.issparse(counts):
        X = sparse.csr_array(counts, dtype=np.float64, copy=True)
        X.sum_duplicates()
        X.eliminate_zeros()
        X = csr(X.data, X.indices, X.indptr, X.shape[1])
    else:
        X = from_dense(np.asarray(counts), np.float64)
    chunk = Chunk(X, pd.DataFrame(index=names))
    program = factors(settings or Settings(), X.shape[1])
    asked = next(program)
    while True:
        asked.update(chunk)
        try:
            asked = program.send(asked.result())
        except StopIteration as stop:
            return stop.value.loc[names]


def _scaled(raw: npt.ArrayLike) -> Floats:
    """Divide by the geometric mean; the order of samples does not show."""
    raw = np.asarray(raw, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(raw)
        mean = fsum(logs) / len(logs) if np.isfinite(logs).all() else float(np.mean(logs))
        return np.asarray(raw / np.exp(mean))


def _quantiles(n: int, p: float) -> Any:
    def measure(X: sparse.csr_array, obs: pd.DataFrame) -> dict[str, Floats]:
        del obs
        value = np.empty(X.shape[0])
        kernels.row_quantiles(X.indptr, X.data, n, p, value)
        return {"value": value}

    return measure


def _against_reference(settings: Settings, n_vars: int) -> Program:
    """TMM (Robinson & Oshlack 2010) and TMMwsp, as `.calcFactorTMM` and `.calcFactorTMMwsp` of edgeR 3.40."""
    given = settings.ref_column
    seen: Overview = yield Overviews(n_vars, given)
    libsize = seen.table["libsize"]
    name: object = given
    row = seen.row
    if given is None:
        if settings.method == "TMM":
            trivial = not seen.n_seen or len(libsize) == 1
            if not trivial:
                _refuse_empty(libsize)
            quantiles = yield PerSample(_quantiles(seen.n_seen, 0.75))
            name = libsize.index[0] if trivial else _reference(quantiles["value"] / libsize, seen.table["roots"])
        else:
            name = seen.table["roots"].idxmax()
        row = yield OneRow(name, n_vars)
    if row is None:
        raise InputError(f"ref_column={given!r}: there is no such sample; {nearest(str(given), libsize.index)}")
    ref, ref_size = row, float(libsize[name])
    trims = np.array([settings.logratio_trim, settings.sum_trim])

    def measure(X: sparse.csr_array, obs: pd.DataFrame) -> dict[str, Floats]:
        raw, sizes = np.empty(X.shape[0]), libsize.loc[obs.index].to_numpy()
        rows = (X.indptr, X.indices, X.data, sizes, ref, ref_size, trims, settings.do_weighting)
        if settings.method == "TMM":
            kernels.tmm(*rows, settings.acutoff, raw)
        else:
            kernels.tmm_wsp(*rows, raw)
        return {"raw": raw}

    return seen.table.join((yield PerSample(measure)))


def _reference(f75: pd.Series, roots: pd.Series) -> object:
    """Choose the sample whose upper quartile is nearest the mean; of several, the first in order of the ids."""
    if f75.median() < 1e-20:
        return roots.idxmax()
    return (f75 - fsum(f75) / len(f75)).abs().idxmin()


def _refuse_empty(libsize: pd.Series) -> None:
    empty = libsize.index[libsize == 0]
    if len(empty):
        raise InputError(
            f"TMM: {len(empty)} of {len(libsize)} samples have no counts at all, e.g. {empty[0]!r}, so there is no "
            "upper quartile to choose a reference by; leave them out (FilterCells(min_counts=1)), give ref_column, or "
            "use method='TMMwsp'"
        )


def _median_ratios(method: str, n_vars: int) -> Program:
    """RLE (Anders & Huber 2010) as edgeR's, and DESeq2's `estimateSizeFactors`, types "ratio" and "poscounts"."""
    logs: Logs
    table, logs = yield LogSums(n_vars)
    n = len(table)
    centre = logs.total / n
    if method == "poscounts":
        centre[logs.n == 0] = np.nan
    else:
        centre[logs.n < n] = np.nan
    if method == "RLE":
        centre = np.exp(centre)

    def measure(X: sparse.csr_array, obs: pd.DataFrame) -> dict[str, Floats]:
        del obs
        value = np.empty(X.shape[0])
        kernels.row_medians(X.indptr, X.indices, X.data, centre, method != "RLE", value)
        return {"value": value}

    value = (yield PerSample(measure))["value"]
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "RLE":
            return table.assign(raw=value / table["libsize"], plain=not logs.n.any())
        size_factors = np.exp(value)
        return table.assign(size_factors=size_factors, raw=size_factors / table["libsize"])

"""Counts of bulk samples: a table, an .h5ad file, or what is in memory, as a source."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from ...chunk import Holds
from ...errors import CountsError, InputError, RoundedCountsWarning, nearest
from ...stats.rates import from_dense
from ..arrays import ArraySource, rounded
from .lengths import gene_lengths
from .read import beside, read_annotation, read_counts

Orientation = Literal["genes x samples", "samples x genes"]
GENE_ID = re.compile(r"(ENS[A-Z]*G\d{6,}|FBgn\d{5,}|WBGene\d{5,}|Y[A-P][LR]\d{3}[WC]|SP[ABC][A-Z]*\d+\.)")

DENSE_VALUES = 4_000_000
"""At most so many values per chunk of samples if a step makes them dense."""


class FractionalCountsWarning(UserWarning):
    """Counts are not whole: expected counts, as of RSEM or salmon, or no counts at all."""


class AnnotationWarning(UserWarning):
    """Some samples or genes are not in the table that describes them."""


@dataclass(frozen=True, eq=False)
class BulkCounts(ArraySource):
    """Samples x genes in memory, as a source; see `open_counts`.

    Parameters
    ----------
    orientation
        How the table was read: "genes x samples" or "samples x genes".
    reason
        Why so.
    """

    orientation: Orientation = "samples x genes"
    reason: str = ""
    counts_checked = True
    layer = "counts"


def open_counts(
    data: Any,
    *,
    samples: str | os.PathLike[str] | pd.DataFrame | None = None,
    genes: str | os.PathLike[str] | pd.DataFrame | None = None,
    orientation: Orientation | None = None,
    lengths: str | pd.Series | pd.DataFrame | Any = None,
) -> BulkCounts:
    """Open counts of bulk samples as a source: samples are its cells.

    Parameters
    ----------
    data
        A CSV or TSV file (plain or gzipped), an .h5ad file, a DataFrame, or an AnnData.
    samples, genes
        What describes samples and genes: a file whose first column holds their ids, or a DataFrame indexed by
        them. None: "x.samples.csv" and "x.genes.csv" beside "x.csv" or "x.counts.csv", if they are there.
    orientation
        "genes x samples" or "samples x genes". None: told by the ids in `samples` and `genes`, by ids that look like
        those of genes, or by there being more genes than samples. `.orientation` and `.reason` of the result,
        and `uns["headrace"]`, say what was found. Not for AnnData.
    lengths
        Gene lengths in bases, for `var["feature_length"]`: the name of a column of `genes`; or a table by gene
        id, with or without version: a Series, a DataFrame with "feature_length" (indexed by id, or with
        "feature_id"), or a query of a Census.

    Returns
    -------
    A source whose X is float32.

    Raises
    ------
    InputError
        If ids come twice or rows are ragged. `CountsError`: a count is negative, missing or text. Names row and column.

    Warns
    -----
    FractionalCountsWarning
        If counts are not whole.
    RoundedCountsWarning
        If a count above 2**24 is not a float32.
    AnnotationWarning
        If some samples or genes are not described.

    Examples
    --------
    >>> import pandas as pd, headrace as hr
    >>> table = pd.DataFrame({"s1": [5, 0, 2], "s2": [7, 1, 0]}, index=["ENSG00000000003", "g2", "g3"])
    >>> source = hr.open_counts(table)
    >>> source.orientation, source.spec.n_obs, source.spec.n_vars
    ('genes x samples', 2, 3)
    """
    origin: dict[str, Any] = {"source": "counts"}
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if not path.is_file():
            raise InputError(f"there is no file {path}; give a .csv, .tsv (or .gz of them) or .h5ad file")
        origin["path"] = str(path)
        if path.suffix == ".h5ad":
            import anndata  # slow to import, and only needed here

            data = anndata.read_h5ad(path)
        else:
            samples = beside(path, "samples") if samples is None else samples
            genes = beside(path, "genes") if genes is None else genes
            data = path
    obs, var = _annotation(samples), _annotation(genes)
    for name, given in (("samples", samples), ("genes", genes)):
        if isinstance(given, (str, os.PathLike)):
            origin[name] = str(given)
    if hasattr(data, "obs_names"):
        if orientation not in (None, "samples x genes"):
            raise InputError(f"orientation={orientation!r}: an AnnData is samples x genes")
        orientation, reason = "samples x genes", "it is an AnnData"
        X, obs, var = data.X, _joined(data.obs, obs, "samples"), _joined(data.var, var, "genes")
    else:
        frame, about = read_counts(data) if isinstance(data, Path) else (_checked_frame(data), pd.DataFrame())
        orientation, reason = _orientation(frame, obs, var, orientation)
        if orientation == "genes x samples":
            if about.shape[1]:
                about = about.rename(columns={"Length": "feature_length"}).astype({"feature_length": float})
                var = about if var is None else about.join(var)
            frame = frame.T
        X = frame.to_numpy()
        obs = _joined(pd.DataFrame(index=frame.index.astype(str)), obs, "samples")
        var = _joined(pd.DataFrame(index=frame.columns.astype(str)), var, "genes")
    X, holds = _checked(X, obs.index, var.index)
    if lengths is not None:
        var = var.assign(feature_length=gene_lengths(lengths, var))
    n_obs = max(1, DENSE_VALUES // max(1, X.shape[1]))
    origin |= {"orientation": orientation, "orientation_because": reason}
    return BulkCounts(X, obs, var, holds, origin, n_obs, orientation=orientation, reason=reason)


def _annotation(given: str | os.PathLike[str] | pd.DataFrame | None) -> pd.DataFrame | None:
    if given is None or isinstance(given, pd.DataFrame):
        table = given
    elif Path(given).is_file():
        table = read_annotation(Path(given))
    else:
        raise InputError(f"there is no file {given}")
    if table is not None:
        table = table.set_axis(table.index.astype(str))
        _unique(table.index, f"the ids of {given if not isinstance(given, pd.DataFrame) else 'the annotation'}")
    return table


def _unique(index: pd.Index, what: str) -> None:
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        rows = ", ".join(str(at + 1) for at in np.flatnonzero(index == twice)[:3])
        raise InputError(f"{what} are not unique: {twice!r} comes more than once, at {rows}; rename or sum them")


def _checked_frame(data: Any) -> pd.DataFrame:
    """Return a DataFrame of numbers, or raise and name what is none."""
    if not isinstance(data, pd.DataFrame):
        raise InputError(f"open_counts takes a path, a DataFrame or an AnnData, not {type(data).__name__}")
    if all(dtype.kind in "iuf" for dtype in set(data.dtypes)):
        values = data.to_numpy()
    else:
        columns = [pd.to_numeric(data.iloc[:, place], errors="coerce") for place in range(data.shape[1])]
        values = np.stack([column.to_numpy(np.float64) for column in columns], axis=1)
    bad = np.argwhere(np.isnan(values))
    if len(bad):
        row, column = bad[0]
        raise CountsError(
            f"row {data.index[row]!r}, column {data.columns[column]!r}: {data.iat[row, column]!r} is no count"
        )
    return pd.DataFrame(values, data.index, data.columns)


def _orientation(
    frame: pd.DataFrame, obs: pd.DataFrame | None, var: pd.DataFrame | None, given: Orientation | None
) -> tuple[Orientation, str]:
    """Tell which way round the table is, and why."""
    if given not in (None, "genes x samples", "samples x genes"):
        raise InputError(f"orientation={given!r}: 'genes x samples' or 'samples x genes'")
    if given is not None:
        return given, "it was said"
    rows, columns = frame.index.astype(str), frame.columns.astype(str)
    evidence: list[tuple[float, float, str]] = []
    if obs is not None:
        evidence.append((columns.isin(obs.index).mean(), rows.isin(obs.index).mean(), "ids of the sample table"))
    if var is not None:
        evidence.append((rows.isin(var.index).mean(), columns.isin(var.index).mean(), "ids of the gene table"))
    by_rows, by_columns = (float(np.mean([bool(GENE_ID.match(name)) for name in names])) for names in (rows, columns))
    evidence.append((by_rows, by_columns, "names like gene ids"))
    for genes_first, samples_first, what in evidence:
        if genes_first != samples_first:
            first = genes_first > samples_first
            return ("genes x samples" if first else "samples x genes"), f"by the {what}"
    if len(rows) == len(columns):
        raise InputError(
            f"the table is {len(rows)} x {len(columns)} and its names do not tell genes from samples; say "
            "orientation='genes x samples' or 'samples x genes'"
        )
    many = len(rows) > len(columns)
    return ("genes x samples" if many else "samples x genes"), "there are more genes than samples"


def _joined(frame: pd.DataFrame, more: pd.DataFrame | None, what: str) -> pd.DataFrame:
    """Add the columns of the annotation, by id."""
    _unique(frame.index, f"the ids of {what}")
    if more is None:
        return frame
    unknown = frame.index[~frame.index.isin(more.index)]
    if len(unknown) == len(frame):
        raise InputError(
            f"none of {len(frame)} {what} is in the table that describes them: {unknown[0]!r}; "
            f"{nearest(str(unknown[0]), more.index)}"
        )
    if len(unknown):
        warnings.warn(
            f"{len(unknown)} of {len(frame)} {what} are not in the table that describes them, e.g. {unknown[0]!r}",
            AnnotationWarning,
            stacklevel=3,
        )
    return frame.drop(columns=[name for name in more if name in frame]).join(more)


def _checked(X: Any, samples: pd.Index, genes: pd.Index) -> tuple[sparse.csr_array, Holds]:
    """Return the counts as CSR, or raise and name sample and gene of what is none."""
    _unique(samples, "the ids of samples")
    _unique(genes, "the ids of genes")
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
    if len(broken):
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

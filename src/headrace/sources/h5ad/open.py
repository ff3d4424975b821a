"""Opening a local .h5ad file."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ...chunk import Holds
from ...errors import CountsError, FractionalCountsWarning, InputError, NotCarriedWarning, SourceError, nearest
from ...support.given import check_call
from ...support.inputs import close_inputs
from ...support.memory import opening
from ...support.places import absolute
from .aligned import shown
from .file import member
from .locate import asked_as, matrices, modality_of
from .preads import stamp
from .source import H5adSource, Holding

MOST_LOOKED_AT = 8
"""Other matrices of the file that are looked at for counts."""


def refuse_if_no_counts(source: H5adSource, values: npt.NDArray[Any] | None = None) -> None:
    """Raise `CountsError` if values of a matrix are no counts; name those of the file that are.

    Parameters
    ----------
    values
        Those that are looked at; None: the first ones.
    """
    first = values is None
    values = source._matrix.peek() if values is None else values
    values = values[np.isfinite(values)]  # others are refused when they are read, and their cells named
    broken = values[(values < 0) | (values != np.floor(values))]
    if not len(broken):
        return
    among = "its first" if first else "its values"
    with_counts = []
    for other in [name for name in matrices(source._file) if name != source.layer][:MOST_LOOKED_AT]:
        try:
            there = replace(source, layer=other)._matrix.peek()
        except (InputError, SourceError):
            continue  # it cannot be asked for either
        if len(there) and ((there >= 0) & (there == np.floor(there))).all():
            with_counts.append(f"{other} has: ask for {asked_as(other)}")
    if values.min() < 0:
        said = "e.g. holds='standardized'"
    elif member(source._file, "uns/log1p") is not None and source.layer == "X":
        said = "holds='logged' (uns['log1p'] is there)"
    else:
        said = (
            "holds='counts' if they are counts that are not whole (SoupX, CellBender, RSEM, ...), or holds='normalized'"
        )
    raise CountsError(
        f"{source.layer} of {source.path} holds no counts: values such as {broken[0]:g} are among {among}. "
        + (f"Whole numbers are what {'; '.join(with_counts)}. " if with_counts else "No other matrix of it does. ")
        + f"To go on with {source.layer} as it is, say what it holds: {said}"
    )


def open_h5ad(
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    raw: bool = False,
    holds: Holding | None = None,
    var_index: str | None = None,
    var_names: str | None = None,
    uns: Literal["keep"] | None = None,
    modality: str | None = None,
    scratch: str | os.PathLike[str] | None = None,
    memory: int | str | None = None,
) -> H5adSource:
    """Open a local .h5ad file, or a modality of an .h5mu, as a source of cells.

    The matrix may be stored as CSR, CSC or dense, in any numbers, contiguous or chunked, compressed by what HDF5 has
    by itself (gzip, lzf, ...). It is streamed in flat memory. CSC is turned into rows through a temporary file of 12
    bytes per non-zero.

    obs and var are carried over, and of obsm and varm (for raw.X, raw.varm) dense arrays and data frames of numbers,
    whose column names are lost; others get a `NotCarriedWarning`. uns is carried over if asked. obsp, varp and other
    layers never are: `uns["headrace"]["query"]["left_out"]` names them.

    Parameters
    ----------
    path
        The file, as anndata 0.7 or later writes it.
    layer
        A layer to read instead of X, e.g. "counts".
    raw
        Whether to read `raw.X`, whose genes are those of `raw.var`. CELLxGENE's files have their counts there.
    holds
        What the matrix holds: "counts", "normalized", "logged" (1 + x; the base is taken from `uns["log1p"]`) or
        "standardized". "counts" need not be whole then, with a `FractionalCountsWarning`. None: whole counts are
        expected, its first values are looked at now, and all of them as they are read by steps that need counts.
    var_index
        Column of var with the ids of genes; by default var's own index.
    var_names
        Column of var to call the genes by, e.g. "feature_name": made unique as `var_names_make_unique` does; the ids
        are kept in `var["feature_id"]`. None: they keep their names.
    uns
        "keep" carries uns over, in memory, as anndata reads it, without "log1p", which tells of the file's X, and what
        refers to obsp. Colours of categories that no cell has any more go with these.
    modality
        Of an .h5mu file (MuData), what is read, e.g. "rna". It must be said if there are several.
    scratch
        Folder for the temporary file that CSC needs; the system's by default (TMPDIR).
    memory
        The most that opening may take, e.g. "1GB", as names and texts of genes are held in memory; by default what a
        run may take. What a run takes, it says itself.

    Returns
    -------
    A source whose X is float32: values that are not whole are rounded to it.

    Raises
    ------
    InputError
        If there is no such file, modality, layer or column; if it has no cells or genes; if names of genes come twice.
    CountsError
        If no `holds` is given and the first values are no counts: says where in the file there are some.
        While reading: if a whole number above 2**24 is no float32.
    SourceError
        If the file is broken, or leads outside itself (external links or storage, virtual datasets, filters of
        plugins). While reading: if an index is out of range or comes twice, or a value is not finite.

    Notes
    -----
    Names of cells need not be unique. `raw=True` and `layer` exclude each other. Summary rows of counters among genes
    (`__no_feature`, `N_unmapped`, ...) are left out, with a `SummaryRowsWarning`; their counts by cell are in obs.

    Examples
    --------
    >>> import anndata, numpy as np, scipy.sparse, tempfile, headrace as hr
    >>> path = tempfile.mkdtemp() + "/small.h5ad"
    >>> anndata.AnnData(scipy.sparse.csc_matrix(np.array([[1.0, 0], [2, 3]], dtype=np.float32))).write_h5ad(path)
    >>> hr.Plan(hr.open_h5ad(path), [hr.NormalizeTotal(10)]).to_anndata().X.toarray()
    array([[10.,  0.],
           [ 4.,  6.]], dtype=float32)
    """
    check_call(open_h5ad, locals())
    if raw and layer is not None:
        raise InputError(f"raw=True reads raw.X, layer={layer!r} a layer: give one of them")
    if holds is not None and holds not in get_args(Holding):
        raise InputError(f"holds={holds!r}; {nearest(str(holds), get_args(Holding))}")
    if uns not in (None, "keep"):
        raise InputError(f"uns={uns!r}: None, or 'keep' to carry it over")
    full = os.fspath(path) if "://" in os.fspath(path) else str(absolute(path))
    if scratch is not None and not os.path.isdir(scratch):
        raise InputError(f"scratch={os.fspath(scratch)!r} is no folder")
    there = stamp(os.stat(full)) if os.path.isfile(full) else (0, 0)
    place = "raw/X" if raw else "X" if layer is None else f"layers/{layer}"
    kind = Holds.UNKNOWN if holds is None else Holds(holds)
    source = H5adSource(
        full, there, place, kind, var_index, None if scratch is None else str(absolute(scratch)), var_names, uns
    )
    with opening(memory):
        return _looked_at(source, layer, modality, asked=holds is not None)


def _looked_at(source: H5adSource, layer: str | None, modality: str | None, asked: bool) -> H5adSource:
    """Return a source of which what can be known without reading X is found to be as it must be."""
    full, place, given = source.path, source.layer, source
    try:
        source = replace(source, modality=modality_of(full, source._file, modality))
        known = matrices(source._file)
        if place not in known:
            layers = [name.removeprefix("layers/") for name in known if name.startswith("layers/")]
            close = f"; {nearest(layer, layers)}" if layer and layers else ""
            others = ", ".join(f"{name} ({asked_as(name)})" for name in known) or "no matrix at all"
            raise InputError(f"{full} has no {place}{close}; it has {others}")
        n_obs, n_vars = source._obs.length, len(source.var)
        if not n_obs or not n_vars:
            raise InputError(f"{full} has {n_obs} cells and {n_vars} genes: there is nothing to do")
        source._obs.check_texts()
        source._matrix  # noqa: B018 # what is broken is named now, not later
        if not asked:
            refuse_if_no_counts(source)
        elif source._fractional:
            warnings.warn(
                f"{place} of {full} holds counts that are not whole; they are taken as they are, and RoundCounts() "
                "makes them whole",
                FractionalCountsWarning,
                stacklevel=3,
            )
        source._summaries.warn(full, stacklevel=3)
        for name, left in source.refused.items():
            warnings.warn(f"of {name} of {full}, not carried over: {shown(left)}", NotCarriedWarning, stacklevel=3)
        return source
    except BaseException:  # the exception would keep the file open
        close_inputs(source)
        close_inputs(given)
        raise

"""What an .h5ad file cannot hold, refused before data is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...chunk import StreamSpec
from ...errors import OutputError
from ...support.columns import is_masked
from .elements import check_table
from .frames import index_name


def check_spec(spec: StreamSpec) -> None:
    """Raise `OutputError` if names or types of a stream have no place in an .h5ad file that anndata opens.

    Examples
    --------
    >>> check_spec(StreamSpec(pd.DataFrame(index=["g"]), pd.DataFrame(columns=["a/"]), 1))
    Traceback (most recent call last):
    headrace.errors.OutputError: obs has a column 'a/', which cannot be a name in an .h5ad file: it begins or ends ...
    """
    check_frame("obs", spec.obs)
    known = spec.obs if spec.whole_obs is None else spec.whole_obs
    for name in spec.obs:
        if name in known and known[name].dtype == spec.obs[name].dtype:
            _check_values(f"obs[{name!r}]", known[name])
    check_frame("var", spec.var)
    for kind, names in (("layer", spec.layers), ("array of obsm", spec.obsm), ("array of varm", spec.varm)):
        for name in names:
            if "/" in name:
                raise OutputError(
                    f"{kind} {name!r}: anndata cannot open a file with a '/' in the name of a layer or array; "
                    f"use another, e.g. {name.replace('/', '_')!r}"
                )
            _check_name(name, f"{'an' if kind[0] == 'a' else 'a'} {kind}")
    _check_keys(spec.uns, "uns")


def check_frame(where: str, table: pd.DataFrame) -> None:
    """Raise unless each column of `obs` or `var` has a name and a type that are written and read back."""
    names = list(table.columns)
    for name in names:
        _check_name(name, f"{where} has a column")
        if name == "_index":
            raise OutputError(f"{where} has a column '_index', a name that anndata keeps for the index; rename it")
        if names.count(name) > 1:
            raise OutputError(f"{where} has {names.count(name)} columns {name!r}; rename or drop all but one")
        parents = ["/".join(name.split("/")[:at]) for at in range(1, name.count("/") + 1)]
        inside = next((each for each in parents if each in (*names, index_name(table))), None)
        if inside is not None:
            raise OutputError(
                f"{where} has columns {inside!r} and {name!r}: in an .h5ad file '/' means 'within'; rename one"
            )
    if table.index.name is not None:
        _check_name(str(table.index.name), f"{where} has an index")
    if table.index.nlevels > 1:
        raise OutputError(f"{where} has an index of {table.index.nlevels} levels; an .h5ad holds one: reset_index()")
    for name in names:
        _check_values(f"{where}[{name!r}]", table[name])


def _check_values(what: str, values: pd.Series) -> None:
    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = dtype.categories
        if isinstance(levels.dtype, pd.CategoricalDtype) or not _storable(levels.dtype):
            raise OutputError(
                f"{what} has categories of type {levels.dtype}, which an .h5ad file does not hold; make them text, "
                "e.g. column.cat.rename_categories(str)"
            )
        _check_text(what, levels, "a category")
    elif not _storable(dtype):
        remedy = "float64" if getattr(dtype, "kind", "") == "f" else "str"
        if isinstance(dtype, pd.ArrowDtype):
            remedy = "Int64, boolean, float64, str"
        raise OutputError(
            f"{what} is {dtype}, which an .h5ad file does not hold; make it another, e.g. .astype({remedy!r}), "
            "or drop the column"
        )
    else:
        _check_text(what, values.dropna(), "a value")


def _check_text(what: str, values: Any, one: str) -> None:
    """Raise if there is something among texts that is none, or has a NUL.

    Of an `obs` that is not in memory only categories are known before reading.
    """
    if values.dtype != object and not isinstance(values.dtype, pd.StringDtype):
        return
    for value in values:
        if not isinstance(value, str):
            raise OutputError(
                f"{what} has {one} {value!r} ({type(value).__name__}), which is no text: a column of an .h5ad file is "
                "text, or numbers, or booleans, and never a mixture; make it one, e.g. .astype(str), or drop it"
            )
        if "\0" in value:
            raise OutputError(f"{what} has {one} {value!r}, with a NUL (\\0) that HDF5 cannot hold; replace it")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise OutputError(f"{what} has {one} {value!r}, which is no Unicode ({error}); replace it") from None


def _storable(dtype: Any) -> bool:
    """Return whether anndata writes and reads columns of a type."""
    if isinstance(dtype, np.dtype):
        return dtype.kind in "biufO" and dtype.itemsize <= 8
    return is_masked(dtype) or isinstance(dtype, pd.StringDtype)


def _check_keys(entries: Mapping[Any, Any], where: str) -> None:
    for key, value in entries.items():
        _check_name(key, f"{where} has an entry")
        if "/" in key:
            raise OutputError(f"{where} has an entry {key!r}: anndata reads no key with '/' in it back; rename it")
        if isinstance(value, Mapping):
            _check_keys(value, f"{where}[{key!r}]")
        elif isinstance(value, np.ndarray) and value.dtype.names:
            check_table(f"{where}[{key!r}]", value)


def _check_name(name: Any, what: str) -> None:
    """Raise unless something can be the name of a member of an HDF5 file, perhaps within others."""
    if not isinstance(name, str):
        raise OutputError(f"{what} {name!r} ({type(name).__name__}): names are text; use {str(name)!r}")
    why = ""
    if not name or "\0" in name:
        why = "it has a NUL (\\0) in it" if name else "it is empty"
    elif any(part in ("", ".") for part in name.split("/")):
        why = "it begins or ends with '/', has '//' in it, or a '.' alone"
    else:
        try:
            name.encode()
        except UnicodeEncodeError:
            why = "it is no Unicode"
    if why:
        raise OutputError(f"{what} {name!r}, which cannot be a name in an .h5ad file: {why}; rename it")

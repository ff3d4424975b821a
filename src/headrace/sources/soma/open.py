"""Opening a Census, or any SOMA experiment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ...errors import InputError
from ...support.amounts import parse_seconds
from ...support.given import check_call
from ...support.places import look
from ...support.retry import call
from ...traffic import RETRY_FOR
from .census import Census
from .choice import Reader, check_reader
from .location import Location
from .releases import find_release
from .selection import asked_joinids
from .source import SomaSource


def open_census(
    census: str | os.PathLike[str] = "stable",
    *,
    tiledb_config: Mapping[str, Any] | None = None,
    reader: Reader = "auto",
    outside: bool = False,
    retry_for: float | str = RETRY_FOR,
) -> Census:
    """Open a Census by release, path or URI.

    Parameters
    ----------
    census
        A release date such as "2025-11-08", "stable" (the newest long-term release) or "latest",
        or the path or `s3://` URI of a Census's SOMA collection.
    tiledb_config
        TileDB settings; they win over the Census's defaults (region, unsigned requests) and over
        the proxy of the environment.
    reader
        Who reads X: "tiles" (headrace itself, faster), "tiledb", or "auto": tiles where X is stored as the Census
        stores it, else TileDB. Both give the same to the bit; `explain` says which one and why. The environment
        variable HEADRACE_READER sets what "auto" means.
    outside
        Whether parts of the Census may be outside its folder or bucket, wherever it says they are.
    retry_for
        For how long to try again what may pass (a line that is cut, a server that is busy), since the last byte that
        came: seconds, or a text such as "5min". What will not pass is raised at once.

    Raises
    ------
    InputError
        If there is no such release or no Census there; if a part of it is elsewhere.
    SourceError
        If the directory of releases cannot be reached.
    LineError
        If the Census cannot be: says what is wrong, and what to do.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> with hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp())) as census:
    ...     census.organisms
    ['homo_sapiens', 'mus_musculus']
    """
    check_call(open_census, locals())
    check_reader(reader)
    patience = parse_seconds(retry_for)
    text = os.fspath(census)
    if "://" not in text and look(text) is None and re.fullmatch(r"stable|latest|V?\d[\w.-]*", text):
        release = find_release(text, patience)
        config = {"vfs.s3.region": release.region, **(tiledb_config or {})}
        where = Location.of(release.uri, config, outside, patience)
        opened = Census(where, release=release.date, reader=reader)
        opened.root  # noqa: B018 # a release that is not there is named now
        return opened
    if "://" not in text and look(text) is None:
        raise InputError(
            f"no Census at {text!r}: it is no path, no URI, and no release "
            "(those are dates such as 2025-11-08, 'stable' or 'latest')"
        )
    opened = Census(Location.of(text, tiledb_config, outside, patience), reader=reader)
    opened.root  # noqa: B018 # a wrong path is named now
    return opened


def open_soma(
    uri: str | os.PathLike[str],
    *,
    measurement: str = "RNA",
    layer: str | None = None,
    obs_filter: str | None = None,
    obs_joinids: Sequence[int] | None = None,
    genes: Sequence[str] | None = None,
    var_index: str | None = None,
    var_names: str | None = None,
    timestamp: int | datetime | None = None,
    tiledb_config: Mapping[str, Any] | None = None,
    reader: Reader = "auto",
    outside: bool = False,
    use_nnz: bool = True,
    retry_for: float | str = RETRY_FOR,
) -> SomaSource:
    """Open any SOMA experiment as a source of cells.

    Cells are called by `obs_id`, where obs has it (`tiledbsoma.io` puts obs_names there), else by soma_joinid. Summary
    rows of counters among the genes (`__no_feature`, ...) are left out, with a warning; their counts are in obs.

    Parameters
    ----------
    uri
        Path or URI of a SOMA Experiment.
    measurement, layer
        Which `ms/<measurement>/X/<layer>` to stream. Without a layer it is "raw", or the only one that there is.
    obs_filter
        Which cells: columns of obs compared with values, e.g. `"cell_type == 'B cell'"`, joined by `and`, `or`, `not`.
    obs_joinids
        soma_joinids of the cells; they stream in increasing order.
    genes
        Ids of the genes, or their names in `feature_name`; all by default.
    var_index
        Column of var that identifies genes; by default the first of `feature_id`, `var_id`, ...
    var_names
        Column of var to call the genes by, e.g. "feature_name": made unique as `var_names_make_unique` does; the ids
        are kept in `var["feature_id"]`. None: they are called by their ids.
    timestamp
        The experiment as it was then: a time, or ms since 1970. None: as it is.
    tiledb_config
        TileDB settings, e.g. for a private S3 server.
    reader
        Who reads X: "tiles" (headrace itself, faster), "tiledb", or "auto": tiles where X is stored as the Census
        stores it, else TileDB. Both give the same to the bit; `explain` says which one and why. The environment
        variable HEADRACE_READER sets what "auto" means.
    outside
        Whether parts of the experiment may be outside its folder or bucket, wherever it says they are.
    use_nnz
        Whether `obs["nnz"]`, if all of it adds up to what X has, sizes chunks and is compared with each cell of X,
        which finds damage. False where it is of another X.
    retry_for
        For how long to try again what may pass (a line that is cut, a server that is busy), since the last byte that
        came: seconds, or a text such as "5min". What will not pass is raised at once.

    Raises
    ------
    InputError
        If there is no such experiment, measurement, layer, column, cell or gene; if a part of it is elsewhere.

    LineError
        If it cannot be reached: says what is wrong, and what to do.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> root = headrace.testing.build_demo_census(tempfile.mkdtemp())
    >>> source = hr.open_soma(f"{root}/census_data/mus_musculus")
    >>> hr.Plan(source, [hr.Log1p()]).to_anndata().n_obs == source.spec.n_obs
    True
    """
    check_call(open_soma, locals())
    check_reader(reader)
    source = SomaSource(
        replace(Location.of(uri, tiledb_config, outside, parse_seconds(retry_for)), timestamp=_milliseconds(timestamp)),
        measurement,
        layer or "raw",
        obs_filter,
        asked_joinids(obs_joinids),
        None if genes is None else tuple(genes),
        var_index,
        reader=reader,
        var_names=var_names,
        use_nnz=use_nnz,
    )
    return call(source.traffic, f"the experiment {source.where}", lambda: _checked(source, layer))


def _checked(source: SomaSource, layer: str | None) -> SomaSource:
    """Return the source with its only layer if none was asked for; what was asked for in vain is named now."""
    kind = getattr(source._experiment.soma, "soma_type", "?")
    if kind != "SOMAExperiment":
        raise InputError(f"{source.where!r} is a {kind}, not a SOMAExperiment: {source.location.remedy}")
    layers = source._experiment.layers
    if layer is None and len(layers) == 1:
        source = replace(source, layer=layers[0])
    source.open_x()
    if source.var_names is not None:
        source.spec  # noqa: B018 # a wrong column too
    source._summaries.warn(source.where, stacklevel=5)
    return source


def _milliseconds(timestamp: int | datetime | None) -> int | None:
    """Return a time in ms since 1970, as TileDB counts."""
    if timestamp is None:
        return None
    try:
        since = round(timestamp.timestamp() * 1000) if isinstance(timestamp, datetime) else timestamp
    except (ValueError, OverflowError, OSError):  # NaT is a datetime
        since = -1
    if since < 0:
        raise InputError(f"timestamp={timestamp!r}: it is milliseconds since 1970, or a datetime from then on")
    return since

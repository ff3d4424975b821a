"""The CELLxGENE Census: its releases, its datasets, and queries of its cells."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from ...chunk import Holds
from ...errors import InputError, SourceError, nearest
from .location import Location, reading
from .query import CensusQuery, DuplicateCellsWarning, FewGenesWarning

COMMON_NAMES = {
    "human": "homo_sapiens",
    "mouse": "mus_musculus",
    "chimpanzee": "pan_troglodytes",
    "macaque": "macaca_mulatta",
    "rhesus_macaque": "macaca_mulatta",
    "marmoset": "callithrix_jacchus",
}
"""What else people call the organisms of the Census."""


@dataclass(frozen=True)
class Census:
    """A Census, local or remote; see `open_census`. A context manager, for habit's sake: it holds no handles.

    Parameters
    ----------
    location
        Where the Census is.
    release
        Date of the release if it was opened by release, else None.
    """

    location: Location
    release: str | None = None

    def __repr__(self) -> str:
        known = [repr(self.location.uri)]
        if self.release is not None:
            known.append(f"release={self.release!r}")
        if "info" in self.__dict__:  # what was looked up, and nothing else: this must not read
            known.append(f"census_build_date={self.info.get('census_build_date')!r}")
        if "organisms" in self.__dict__:
            known.append(f"organisms={self.organisms!r}")
        return f"Census({', '.join(known)})"

    def __enter__(self) -> Census:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    @cached_property
    def info(self) -> dict[str, str]:
        """The Census's own summary: `census_build_date`, `census_schema_version`, `dataset_schema_version`, ..."""
        summary = self._table("summary")
        return dict(zip(summary["label"].astype(str), summary["value"].astype(str), strict=True))

    @cached_property
    def organisms(self) -> list[str]:
        """Names of the organisms, e.g. "homo_sapiens"."""
        with reading(self.location.uri):
            return sorted(self._root["census_data"])

    def datasets(
        self,
        dataset_id: str | Sequence[str] | None = None,
        *,
        title: str | None = None,
        collection: str | None = None,
        organism: str | None = None,
        assay: str | None = None,
        assays: bool = False,
    ) -> pd.DataFrame:
        """Return the table of datasets.

        `organism`, `assay` and `assays` read two columns of obs, of the organism or of all: the tables of the Census
        do not tell. The rest reads one small table.

        Parameters
        ----------
        dataset_id
            One id or several.
        title, collection
            Parts of the dataset's title or the collection's name or id; case does not matter.
        organism, assay
            Only datasets with cells of this organism, of this assay (e.g. "Smart-seq2"); adds `n_obs`, their number.
        assays
            Add a column `assays`, cells per assay.

        Returns
        -------
        DataFrame, one row per dataset, the columns of `census_info/datasets`.

        Examples
        --------
        >>> import headrace as hr, headrace.testing, tempfile
        >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
        >>> census.datasets(organism="homo_sapiens", assay="Smart-seq2")["n_obs"].tolist()
        [400, 100]
        """
        table = self._table("datasets").drop(columns="soma_joinid")
        if dataset_id is not None:
            wanted = [dataset_id] if isinstance(dataset_id, str) else list(dataset_id)
            self._check_datasets(wanted)
            table = table[table["dataset_id"].isin(wanted)]
        if title is not None:
            table = table[table["dataset_title"].str.contains(title, case=False, regex=False)]
        if collection is not None:
            name = table["collection_name"].str.contains(collection, case=False, regex=False)
            table = table[name | (table["collection_id"] == collection)]
        if organism is not None or assay is not None or assays:
            cells = self._cells_per_assay([self._organism(organism)] if organism else self.organisms)
            chosen = cells if assay is None else cells[cells["assay"] == assay]
            if assay is not None and not len(chosen):
                raise InputError(f"no cell here has assay {assay!r}; {nearest(assay, cells['assay'])}")
            if organism is not None or assay is not None:
                n_obs = chosen.groupby("dataset_id")["n_obs"].sum()
                table = table[table["dataset_id"].isin(n_obs.index)]
                table = table.assign(n_obs=n_obs.reindex(table["dataset_id"]).to_numpy())
            if assays:
                found = {
                    dataset: dict(zip(part["assay"], part["n_obs"].map(int), strict=True))
                    for dataset, part in cells.groupby("dataset_id")
                }
                table = table.assign(assays=[found.get(d, {}) for d in table["dataset_id"]])
        return table.reset_index(drop=True)

    def query(
        self,
        organism: str,
        *,
        dataset_id: str | Sequence[str] | None = None,
        obs_filter: str | None = None,
        obs_joinids: Sequence[int] | None = None,
        genes: Literal["measured", "any", "all"] | Sequence[str] = "measured",
        primary_only: bool | None = None,
        layer: str = "raw",
    ) -> CensusQuery:
        """Choose cells and genes; reads obs and the presence matrix, not X.

        Parameters
        ----------
        organism
            "homo_sapiens" or "Homo sapiens", ...
        dataset_id
            One dataset or several; all by default.
        obs_filter
            A SOMA value filter on obs, passed on unchanged, e.g. `"tissue_general == 'liver'"`.
        obs_joinids
            soma_joinids of cells; they stream in increasing order.
        genes
            "measured": those measured in every dataset of the query. "any": in at least one; `var` then says
            in how many of the query's cells (`n_measured_cells`). "all": every gene of the Census.
            Or a list of feature_ids or feature_names. `dropped` of the query says how many genes the rule leaves out.
        primary_only
            True leaves out duplicate cells (`is_primary_data`). Unset keeps them and warns if there are any.
        layer
            "raw", or "normalized": the Census's own, counts (by length, for full-gene assays) per total.

        Raises
        ------
        InputError
            If a name, id, filter or gene is unknown, or nothing is left.

        Examples
        --------
        >>> import headrace as hr, headrace.testing, tempfile
        >>> root = headrace.testing.build_demo_census(tempfile.mkdtemp())
        >>> with hr.open_census(root) as census:
        ...     liver = census.query("Mus musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
        >>> list(liver.value_counts("assay"))
        ['Smart-seq2']
        """
        name = self._organism(organism)
        ids = None
        if dataset_id is not None:
            ids = (dataset_id,) if isinstance(dataset_id, str) else tuple(dataset_id)
            if not ids:
                raise InputError("dataset_id is an empty list; leave it out for all datasets")
            self._check_datasets(ids)
        if isinstance(genes, str) and genes not in ("measured", "any", "all"):
            raise InputError(f"genes={genes!r}: 'measured', 'any', 'all', or a list of feature_ids or feature_names")
        query = CensusQuery(
            location=self.location.at("census_data", name),
            layer=layer,
            obs_filter=obs_filter,
            obs_joinids=None if obs_joinids is None else tuple(int(i) for i in obs_joinids),
            genes=None if isinstance(genes, str) else tuple(genes),
            var_index="feature_id",
            holds=Holds.NORMALIZED if layer == "normalized" else Holds.COUNTS,
            census=self,
            organism=name,
            dataset_ids=ids,
            rule=genes if isinstance(genes, str) else "list",
            primary_only=primary_only,
        )
        query.resolve()
        return query

    # ---------------------------------------------------------------------------------------------- looking up
    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was opened or looked up."""
        return {"location": self.location, "release": self.release}

    @cached_property
    def _root(self) -> Any:
        root = self.location.open()
        if "census_data" not in root or "census_info" not in root:
            raise InputError(
                f"{self.location.uri!r} is a {getattr(root, 'soma_type', 'SOMA object')}, not a Census: it has no "
                "census_info and census_data; for a single experiment use hr.open_soma"
            )
        return root

    def _table(self, name: str) -> pd.DataFrame:
        with reading(f"{self.location.uri}/census_info/{name}"):
            return self._root["census_info"][name].read().concat().to_pandas()

    def _organism(self, organism: str) -> str:
        name = organism.strip().lower().replace(" ", "_")
        if name not in self.organisms:
            raise InputError(
                f"the Census has no organism {organism!r}; {nearest(COMMON_NAMES.get(name, name), self.organisms)}"
            )
        return name

    def _check_datasets(self, ids: Sequence[str]) -> None:
        table = self._table("datasets")
        unknown = [one for one in ids if one not in set(table["dataset_id"])]
        if unknown:
            raise InputError(f"the Census has no dataset {unknown[0]!r}; {_datasets_named(unknown[0], table)}")

    def _organisms_of(self, ids: Sequence[str]) -> list[str]:
        """Name the organisms that the cells of some datasets are of."""
        value_filter = f"dataset_id in {list(ids)!r}"
        found = []
        for name in self.organisms:
            with reading(f"{self.location.uri}/census_data/{name}/obs"):
                cells = self._root["census_data"][name].obs.read(value_filter=value_filter, column_names=["dataset_id"])
                if sum(len(table) for table in cells):
                    found.append(name)
        return found

    def _cells_per_assay(self, organisms: Sequence[str]) -> pd.DataFrame:
        parts = []
        for name in organisms:
            obs = self._root["census_data"][name].obs
            with reading(f"{self.location.uri}/census_data/{name}/obs"):
                for table in obs.read(column_names=["dataset_id", "assay"]):
                    part = table.to_pandas().groupby(["dataset_id", "assay"], observed=True).size()
                    parts.append(part.rename("n_obs").reset_index().astype({"dataset_id": str, "assay": str}))
        return pd.concat(parts).groupby(["dataset_id", "assay"], as_index=False)["n_obs"].sum()


def open_census(census: str | os.PathLike[str] = "stable", *, tiledb_config: Mapping[str, Any] | None = None) -> Census:
    """Open a Census by release, path or URI.

    Parameters
    ----------
    census
        A release date such as "2025-11-08", "stable" (the newest long-term release) or "latest",
        or the path or `s3://` URI of a Census's SOMA collection.
    tiledb_config
        TileDB settings; they win over the Census's defaults (region, unsigned requests) and over
        the proxy of the environment.

    Raises
    ------
    InputError
        If there is no such release or no Census there.
    SourceError
        If the directory of releases cannot be reached.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> with hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp())) as census:
    ...     census.organisms
    ['homo_sapiens', 'mus_musculus']
    """
    text = os.fspath(census)
    if "://" not in text and not os.path.exists(text) and re.fullmatch(r"stable|latest|V?\d[\w.-]*", text):
        return _open_release(text, dict(tiledb_config or {}))
    if "://" not in text and not os.path.exists(text):
        raise InputError(
            f"no Census at {text!r}: it is no path, no URI, and no release "
            "(those are dates such as 2025-11-08, 'stable' or 'latest')"
        )
    opened = Census(Location.of(text, tiledb_config))
    opened._root  # noqa: B018 # a wrong path is named now
    return opened


def _datasets_named(text: str, table: pd.DataFrame) -> str:
    """Name the datasets that something other than an id may mean, as the tail of a sentence."""
    asked = text.strip().lower()
    columns = ("dataset_version_id", "dataset_title", "collection_id", "collection_name")
    for column in (name for name in columns if name in table):  # old releases lack some
        lowered = table[column].astype(str).str.lower()
        meant = table[lowered == asked]
        if not len(meant) and asked:
            meant = table[lowered.str.contains(asked, regex=False)]
        if len(meant):
            shown = [f"{row.dataset_id!r} ({row.dataset_title})" for row in meant.head(3).itertuples()]
            more = f", and {len(meant) - 3} more" if len(meant) > 3 else ""
            return f"it is in the {column} of dataset_id {', '.join(shown)}{more}"
    return nearest(text, table["dataset_id"])


def _open_release(name: str, tiledb_config: dict[str, Any]) -> Census:
    """Look a release up in the Census's directory, over the network."""
    import cellxgene_census  # seconds to import, and only needed here
    import requests

    try:
        directory = cellxgene_census.get_census_version_directory()
        entry = cellxgene_census.get_census_version_description(name)
    except (requests.RequestException, OSError) as error:
        raise SourceError(
            f"cannot look up the Census release {name!r}: give the path or s3:// URI of a Census, or check the network "
            f"(HTTPS_PROXY is honoured): {str(error).splitlines()[0]}"
        ) from error
    except ValueError:
        raise InputError(f"there is no Census release {name!r}; {nearest(name, directory)}") from None
    soma = entry["soma"]
    config = {"vfs.s3.region": soma.get("s3_region") or "us-west-2", **tiledb_config}
    opened = Census(Location.of(soma["uri"], config), release=str(entry["release_build"]))
    opened._root  # noqa: B018
    return opened


__all__ = ["Census", "CensusQuery", "DuplicateCellsWarning", "FewGenesWarning", "open_census"]

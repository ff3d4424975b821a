"""The tables of a Census: summary, organisms, datasets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from ...errors import InputError, nearest
from ...support.retry import call
from .arrays import Frame
from .choice import Reader
from .location import Location, reading
from .replica import Replica, census_replica

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
class Catalog:
    """The tables of a Census: its summary, its organisms, its datasets. Holds no handles, and pickles small.

    Parameters
    ----------
    location
        Where the Census is.
    release
        Date of the release if it was opened by release, else None.
    reader
        Who reads X of its queries, unless they say otherwise.
    """

    location: Location
    release: str | None = None
    reader: Reader = "auto"

    @cached_property
    def info(self) -> dict[str, str]:
        """The Census's own summary: `census_build_date`, `census_schema_version`, `dataset_schema_version`, ..."""
        summary = self.table("summary")
        return dict(zip(summary["label"].astype(str), summary["value"].astype(str), strict=True))

    @cached_property
    def organisms(self) -> list[str]:
        """Names of the organisms, e.g. "homo_sapiens"."""
        return call(self.location.traffic, self.location.uri, self._organisms)

    def _organisms(self) -> list[str]:
        with reading(self.location.uri):
            return sorted(self.root["census_data"])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was opened or looked up."""
        return {"location": self.location, "release": self.release, "reader": self.reader}

    @cached_property
    def root(self) -> Any:
        """The open SOMA collection; raises `InputError` if it is no Census."""
        root = self.location.open() if self.replica is None else self.replica.open()
        if not call(self.location.traffic, self.location.uri, lambda: _has(root, "census_data", "census_info")):
            raise InputError(
                f"{self.location.uri!r} is a {getattr(root, 'soma_type', 'SOMA object')}, not a Census, since it has "
                f"no census_info and census_data: {self.location.remedy}"
            )
        self.location.check_members(root, "census_info", "census_data", copy=self._copy)
        with reading(self.location.uri):
            for name in ("census_info", "census_data"):
                self.location.check_members(root[name], *root[name], copy=self._copy)
        return root

    @property
    def _copy(self) -> str:
        return "" if self.replica is None else self.replica.fetched.folder

    @cached_property
    def replica(self) -> Replica | None:
        """The files of the Census, if it is far away; its tables are fetched with the first."""
        return census_replica(self.location, self.release)

    def has_table(self, name: str) -> bool:
        """Return whether there is a table of `census_info`."""
        with reading(self.location.uri):
            return name in self.root["census_info"]

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of `census_info` whole: "summary", "datasets", ...; it is read once."""
        if name not in self._tables:
            where = f"{self.location.uri}/census_info/{name}"
            read = partial(self._read_table, name, where)
            self._tables[name] = call(self.location.traffic, where, read, lambda: self.__dict__.pop("root", None))
        return self._tables[name].copy()

    def _read_table(self, name: str, where: str) -> pd.DataFrame:
        if self.replica is not None:
            self.replica.fetch(self.replica.at("census_info", name).table())
        with reading(where):
            return self.root["census_info"][name].read().concat().to_pandas()

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return {}

    def obs(self, organism: str) -> Frame:
        """Return the cells of an organism."""
        replica = None if self.replica is None else self.replica.at("census_data", organism)
        if replica is not None:
            replica.fetch(replica.collection(), replica.at("obs").array())
        with reading(f"obs of {organism} in {self.location.uri}"):
            experiment = self.root["census_data"][organism]
            self.location.check_members(experiment, "obs", copy=self._copy)
            opened = experiment.obs
        return Frame(opened, None if replica is None else replica.part(opened.uri))

    def canonical_organism(self, organism: str) -> str:
        """Return the Census's name of an organism, e.g. of "Homo sapiens"; raise `InputError` if it has none."""
        name = organism.strip().lower().replace(" ", "_")
        if name not in self.organisms:
            raise InputError(
                f"the Census has no organism {organism!r}; {nearest(COMMON_NAMES.get(name, name), self.organisms)}"
            )
        return name

    def dataset_ids(self, dataset_id: str | Sequence[str] | None) -> tuple[str, ...] | None:
        """Return the ids of datasets, or raise `InputError` if there are none of them, or unknown ones."""
        if dataset_id is None:
            return None
        ids = (dataset_id,) if isinstance(dataset_id, str) else tuple(dataset_id)
        if not ids:
            raise InputError("dataset_id is an empty list; leave it out for all datasets")
        self.check_datasets(ids)
        return ids

    def check_datasets(self, ids: Sequence[str]) -> None:
        """Raise `InputError` if the Census lacks one of the dataset ids."""
        table = self.table("datasets")
        unknown = [one for one in ids if one not in set(table["dataset_id"])]
        if unknown:
            raise InputError(f"the Census has no dataset {unknown[0]!r}; {_datasets_named(unknown[0], table)}")

    def known_datasets(self, ids: Sequence[str]) -> list[str]:
        """Return those of some texts that are ids of datasets."""
        known = set(self.table("datasets")["dataset_id"]) if ids else set()
        return [one for one in ids if one in known]

    def organisms_of(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return which of some datasets have cells of each organism; organisms that have none are left out."""
        value_filter = f"dataset_id in {list(ids)!r}"
        found = {}
        for name in self.organisms:
            there: set[str] = set()
            with reading(f"{self.location.uri}/census_data/{name}/obs"):
                for table in self.obs(name).read(["dataset_id"], None, value_filter):
                    there.update(map(str, table["dataset_id"].to_pandas().unique()))
            if there:
                found[name] = [one for one in ids if one in there]
        return found

    def refuse_other_organisms(self, organism: str, ids: Sequence[str], there: Collection[str]) -> None:
        """Raise if some of the datasets have cells of another organism only: the rest would be half an answer.

        Parameters
        ----------
        ids
            The datasets that were asked for.
        there
            Those with cells that match, which need not be looked at.
        """
        absent = [one for one in ids if one not in there]
        if not absent:
            return
        found = self.organisms_of(absent)  # a filter may also leave none of a dataset
        here = found.pop(organism, [])
        others = {name: [one for one in those if one not in here] for name, those in found.items()}
        said = [f"{', '.join(map(repr, those))} of {name}" for name, those in others.items() if those]
        if said:
            some = f"of the {len(ids)} datasets, some have" if len(ids) > 1 else "it has"
            raise InputError(
                f"dataset_id: {some} no cell of {organism}: "
                f"{'; '.join(said)}. A query is of one organism: make one for each"
            )

    def cells_per_assay(self, organisms: Sequence[str]) -> pd.DataFrame:
        """Count cells by dataset and assay: columns `dataset_id`, `assay`, `n_obs`; reads two columns of obs."""
        parts = []
        for name in organisms:
            with reading(f"{self.location.uri}/census_data/{name}/obs"):
                for table in self.obs(name).read(["dataset_id", "assay"]):
                    part = table.to_pandas().groupby(["dataset_id", "assay"], observed=True).size()
                    parts.append(part.rename("n_obs").reset_index().astype({"dataset_id": str, "assay": str}))
        return pd.concat(parts).groupby(["dataset_id", "assay"], as_index=False)["n_obs"].sum()


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


def _has(root: Any, *names: str) -> bool:
    """Return whether a SOMA object is a collection that has these members."""
    return hasattr(root, "members") and set(names) <= set(root)

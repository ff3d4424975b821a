"""The CELLxGENE Census: its releases, its datasets, and queries of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ...chunk import Holds
from ...errors import InputError, nearest
from ...support.given import check_call
from ...support.retry import call
from .catalog import Catalog
from .choice import Reader, check_reader
from .count import cell_filter, count_cells
from .notices import DuplicateCellsWarning, FewGenesWarning
from .query import CensusQuery
from .selection import Selection, asked_joinids


@dataclass(frozen=True)
class Census(Catalog):
    """A Census, local or remote; see `open_census`. A context manager, for habit's sake: it holds no handles.

    Parameters
    ----------
    location
        Where the Census is.
    release
        Date of the release if it was opened by release, else None.
    reader
        Who reads X of its queries, unless they say otherwise.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
    >>> census.organisms
    ['homo_sapiens', 'mus_musculus']
    >>> len(census.datasets(organism="mus_musculus"))
    2
    """

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
        check_call(Census.datasets, locals())
        table = self.table("datasets").drop(columns="soma_joinid")
        if dataset_id is not None:
            wanted = [dataset_id] if isinstance(dataset_id, str) else list(dataset_id)
            self.check_datasets(wanted)
            table = table[table["dataset_id"].isin(wanted)]
        if title is not None:
            table = table[table["dataset_title"].str.contains(title, case=False, regex=False)]
        if collection is not None:
            name = table["collection_name"].str.contains(collection, case=False, regex=False)
            table = table[name | (table["collection_id"] == collection)]
        if organism is not None or assay is not None or assays:
            names = [self.canonical_organism(organism)] if organism else self.organisms
            cells = call(self.location.traffic, "the cells of each assay", lambda: self.cells_per_assay(names))
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

    def count(
        self,
        organism: str,
        by: str | Sequence[str] | None = None,
        *,
        dataset_id: str | Sequence[str] | None = None,
        obs_filter: str | None = None,
        primary_only: bool = False,
    ) -> pd.DataFrame:
        """Count the cells of each group: from obs alone, of which only the columns asked for are read.

        Parameters
        ----------
        organism, dataset_id, obs_filter
            As in `query`.
        by
            Columns of obs, e.g. `["cell_type", "tissue"]`; all cells together by default.
        primary_only
            Whether duplicate cells (`is_primary_data` is False) are left out.

        Returns
        -------
        DataFrame, one row per group, most cells first: the columns, `n_obs`, and `n_duplicates`: how many of the
        `n_obs` are duplicates of cells in other datasets. Missing values are a group.

        Raises
        ------
        InputError
            If a name, id, filter or column is unknown.

        Examples
        --------
        >>> import headrace as hr, headrace.testing, tempfile
        >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
        >>> census.count("mus_musculus", by="assay")["assay"].tolist()
        ['Smart-seq2', "10x 3' v3"]
        """
        check_call(Census.count, locals())
        name = self.canonical_organism(organism)
        ids = self.dataset_ids(dataset_id)
        where = self.location.at("census_data", name).uri
        return call(
            self.location.traffic,
            f"obs of {where}",
            lambda: self._count(name, ids, obs_filter, primary_only, by, where),
            lambda: self.__dict__.pop("root", None),
        )

    def _count(
        self,
        name: str,
        ids: Sequence[str] | None,
        obs_filter: str | None,
        primary_only: bool,
        by: str | Sequence[str] | None,
        where: str,
    ) -> pd.DataFrame:
        asked = Selection(self.obs(name), cell_filter(ids, obs_filter, False), None, False, (), where)
        named = self.known_datasets(asked.named("dataset_id"))
        if named:
            there = count_cells(self.obs(name), named, None, False, "dataset_id", where)["dataset_id"]
            self.refuse_other_organisms(name, named, set(map(str, there)))
        return count_cells(self.obs(name), ids, obs_filter, primary_only, by, where)

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
        reader: Reader | None = None,
        var_names: str | None = None,
    ) -> CensusQuery:
        """Choose cells and genes; reads obs and the presence matrix, not X.

        Parameters
        ----------
        organism
            "homo_sapiens" or "Homo sapiens", ...
        dataset_id
            One dataset or several; all by default.
        obs_filter
            Which cells: columns of obs compared with values, e.g. `"tissue_general == 'liver'"`, joined by `and`, `or`,
            `not`. A missing value passes no comparison but `== None`. Checked here, then TileDB's.
        obs_joinids
            soma_joinids of cells; they stream in increasing order.
        genes
            "measured": those measured in every dataset of the query. "any": in at least one; `var` then says
            in how many of the query's cells (`n_measured_cells`). "all": every gene of the Census.
            Or a list of feature_ids or feature_names. `dropped` of the query says how many genes the rule leaves out.
        primary_only
            True leaves out duplicate cells (`is_primary_data`). Unset keeps them and warns if there are any.
        var_names
            Column of var to call the genes by, e.g. "feature_name": made unique as `var_names_make_unique` does; the
            ids are kept in `var["feature_id"]`. None: they are called by their ids.
        layer
            "raw", or "normalized": the Census's own, counts (by length, for full-gene assays) per total.
        reader
            Who reads X, as in `open_census`; that of the Census if unset.

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
        check_call(Census.query, locals())
        check_reader(self.reader if reader is None else reader)
        name = self.canonical_organism(organism)
        ids = self.dataset_ids(dataset_id)
        if isinstance(genes, str) and genes not in ("measured", "any", "all"):
            raise InputError(f"genes={genes!r}: 'measured', 'any', 'all', or a list of feature_ids or feature_names")
        query = CensusQuery(
            location=self.location.at("census_data", name),
            layer=layer,
            reader=self.reader if reader is None else reader,
            obs_filter=obs_filter,
            obs_joinids=asked_joinids(obs_joinids),
            genes=None if isinstance(genes, str) else tuple(genes),
            var_index="feature_id",
            holds=Holds.NORMALIZED if layer == "normalized" else Holds.COUNTS,
            census=self,
            organism=name,
            dataset_ids=ids,
            rule=genes if isinstance(genes, str) else "list",
            primary_only=primary_only,
            var_names=var_names,
        )
        query.resolve()
        if var_names is not None:
            query.spec  # noqa: B018 # a wrong column is named now
        return query


__all__ = ["Census", "CensusQuery", "DuplicateCellsWarning", "FewGenesWarning"]

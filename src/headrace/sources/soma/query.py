"""A query of a Census: some of its cells and genes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...chunk import StreamSpec
from ...errors import InputError, SourceError
from ...presence import Presence
from ...support.retry import call
from ..compact import Sizes
from .catalog import Catalog
from .cells import absent_values
from .checks import impossible
from .count import cell_filter
from .experiment import PRESENCE
from .genes import Genes, choose
from .notices import DuplicateCellsWarning, FewGenesWarning
from .presence import read_presence
from .replica import Replica
from .selection import Selection
from .source import SomaSource

MEDIAN_LENGTH_SINCE = "2025-01-30"
FEW_GENES = 1000


@dataclass(frozen=True)
class CensusQuery(SomaSource):
    """Some cells and genes of a Census; made by `Census.query`. A source for a `Plan`.

    Examples
    --------
    >>> import tempfile, headrace as hr, headrace.testing
    >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
    >>> liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
    >>> liver.spec
    StreamSpec(700 cells x 2,000 genes, 486,878 non-zeros, counts)
    """

    census: Catalog = None  # type: ignore[assignment] # required, but dataclasses want a default after defaults
    organism: str = ""
    dataset_ids: tuple[str, ...] | None = None
    rule: str = "measured"
    primary_only: bool | None = None

    def __repr__(self) -> str:
        asked = [f"{name}={value!r}" for name, value in self._query.items() if name != "organism"]
        return f"CensusQuery({', '.join([repr(self.organism), *asked])})"

    def look_up(self) -> None:
        """Look cells and genes up, and who reads X."""
        self.cells  # noqa: B018
        self.census.refuse_other_organisms(self.organism, self._named_datasets, self._datasets)
        self.columns  # noqa: B018
        self.open_x()

    def resolve(self) -> None:
        """Look cells and genes up, so that whatever is wrong with the query is said now."""
        call(self.traffic, f"obs of {self.where}", self.look_up, self._forget)
        if self.primary_only is None:
            n = self.cells.duplicates
            if n:
                warnings.warn(
                    f"{n} of {self.cells.matched} cells are duplicates of cells in other datasets "
                    "(is_primary_data is False); primary_only=True leaves them out, primary_only=False keeps them",
                    DuplicateCellsWarning,
                    stacklevel=3,
                )
        n_vars = len(self.columns.var)
        if self.rule == "measured" and len(self._datasets) > 1 and 0 < n_vars < FEW_GENES:
            warnings.warn(
                f"only {n_vars} genes were measured in all {len(self._datasets)} datasets; "
                "genes='any' takes those measured in at least one",
                FewGenesWarning,
                stacklevel=3,
            )

    @property
    def _compared(self) -> bool:  # type: ignore[override]
        return self.traffic is not None and self.layer == "raw"

    @property
    def _complete(self) -> bool:  # type: ignore[override]
        """Whether every value of the cells is of a gene of the query: those of one dataset are of genes it measured."""
        return self.rule == "all" or (self.rule in ("measured", "any") and len(self._datasets) == 1)

    def _describe(self) -> StreamSpec:
        return replace(super()._describe(), measured=self._measured, presence_aware=self.rule == "any", uns=self._known)

    @property
    def _known(self) -> dict[str, str]:
        """What the Census knows of what CELLxGENE's schema asks for in uns: the organism, the title of one dataset."""
        known = {}
        if self.census.has_table("organisms"):
            table = self.census.table("organisms")
            if {"organism", "organism_ontology_term_id"} <= set(table):
                terms = dict(zip(table["organism"], table["organism_ontology_term_id"], strict=True))
                if self.organism in terms:
                    known["organism_ontology_term_id"] = str(terms[self.organism])
        if len(self._datasets) == 1:
            known["title"] = str(self._listed("dataset_title").iloc[0])
        return known

    def _replica(self) -> Replica | None:
        """Return the files of the organism, among those of the Census."""
        return None if self.census.replica is None else self.census.replica.at("census_data", self.organism)

    def _forget(self) -> None:
        """Open all anew; what the Census has fetched of the organism is fetched again."""
        replica = self._replica()
        if replica is not None:
            replica.distrust()
        super()._forget()

    @property
    def value_filter(self) -> str | None:
        """The SOMA value filter of the cells: datasets, filter, primary data."""
        return cell_filter(self.dataset_ids, self.obs_filter, bool(self.primary_only))

    @property
    def _selection(self) -> Selection:
        """The cells; duplicates are left out here and not by the filter, so that they are counted."""
        asked = cell_filter(self.dataset_ids, self.obs_filter, False)
        primary = bool(self.primary_only)
        return Selection(self._experiment.obs, asked, self.obs_joinids, primary, self.samples, self.where)

    _way_out = ""

    def _believes(self, nnz: Sizes) -> bool:
        """In a Census nnz is what it says, or the Census is broken."""
        wrong = impossible(nnz, self._experiment.var["soma_joinid"].to_numpy())
        if wrong is not None:
            raise SourceError(f"{self.where}: a cell has an nnz of {wrong:,}, which no cell of its genes can have")
        return True

    @cached_property
    def columns(self) -> Genes:
        """The genes of the query: the columns of X, by the rule and the presence matrix."""
        var, n_cells = self._experiment.var, self._n_measured_cells
        if len(self._datasets) > 1:
            var = var.assign(n_measured_cells=n_cells)
        n_obs = len(self.cells.joinids)
        if self.genes is not None:
            var = choose(var, self.genes, "feature_id")
        elif self.rule == "measured":
            var = var[n_cells == n_obs]
        elif self.rule == "any":
            var = var[n_cells > 0]
        if not len(var):
            raise InputError(
                f"no gene was measured in all {len(self._datasets)} datasets of the query; "
                "genes='any' takes those measured in at least one"
            )
        return Genes.of(var, "feature_id")

    @property
    def dropped(self) -> dict[str, int]:
        """Genes of the Census that the rule leaves out: measured in no dataset of the query, or in some only."""
        if self.rule not in ("measured", "any"):
            return {}
        nowhere = int((self._n_measured_cells == 0).sum())
        dropped = {"n_genes_not_measured": nowhere}
        if self.rule == "measured":
            dropped["n_genes_partly_measured"] = len(self._experiment.var) - len(self.columns.var) - nowhere
        return dropped

    @property
    def length_definition(self) -> str:
        """What `feature_length` measures in this release."""
        built = self.census.info.get("census_build_date", "")
        if built >= MEDIAN_LENGTH_SINCE:
            return "median length of the gene's isoforms, in bases (CELLxGENE schema 5.2 and later)"
        return "length of the gene's merged exons, in bases (CELLxGENE schema before 5.2)"

    @property
    def _held(self) -> int:
        """Bytes of what the query holds: also which genes each dataset measured; of the query, and of a step."""
        measured = self.spec.measured
        return super()._held + self._seen.nbytes + (0 if measured is None else 2 * measured.nbytes)

    def provenance(self) -> dict[str, Any]:
        """Say what was asked of which release, in plain values; never where it was read from."""
        asked = {**self._query, **self.dropped, **self._left_out}
        census: dict[str, str] = {
            key: self.census.info[key]
            for key in ("census_build_date", "census_schema_version", "dataset_schema_version")
            if key in self.census.info
        }
        if self.census.release:
            census["release"] = self.census.release
        return {"census": census, "query": asked, "feature_length": self.length_definition}

    @property
    def _query(self) -> dict[str, Any]:
        """What was asked for, in plain values."""
        asked: dict[str, Any] = {"organism": self.organism, "layer": self.layer, "genes": self.rule}
        if self.genes is not None:
            asked["genes"] = f"{len(self.genes)} named genes"
        if self.dataset_ids is not None:
            asked["dataset_id"] = list(self.dataset_ids)
        if self.obs_filter is not None:
            asked["obs_filter"] = self.obs_filter
        if self.obs_joinids is not None:
            asked["n_obs_joinids"] = len(self.obs_joinids)
        if self.primary_only is not None:
            asked["primary_only"] = self.primary_only
        return asked

    @property
    def _asked(self) -> str:
        ids = "" if self.obs_joinids is None else f" among {len(self.obs_joinids)} obs_joinids"
        return f"{self.organism}: {self.value_filter or 'any cell'}{ids}{self._why_none()}"

    def _why_none(self) -> str:
        """Say why no cell matches, if the datasets are of another organism, or a value does not occur."""
        named = self._named_datasets
        others = self.census.organisms_of(named) if named else {}
        if others and self.organism not in others:
            return f"; cells with that dataset_id are of {' and '.join(others)}"
        if self.obs_filter is None:
            return ""
        among = cell_filter(self.dataset_ids, None, bool(self.primary_only))
        return absent_values(self._experiment.obs, self.obs_filter, among, self.obs_joinids, self.where)

    @property
    def _named_datasets(self) -> list[str]:
        """The datasets that are asked for by id, be it as dataset_id or in the filter."""
        return self.census.known_datasets(self._selection.named("dataset_id"))

    @property
    def _cell_columns(self) -> tuple[str, ...]:
        return ("dataset_id", "assay", "assay_ontology_term_id")

    @cached_property
    def _datasets(self) -> dict[str, int]:
        """Cells of the query in each of its datasets."""
        return self.value_counts("dataset_id")

    def _listed(self, column: str) -> pd.Series[Any]:
        """Return what the Census's table of datasets says of those of the query."""
        table = self.census.table("datasets").set_index("dataset_id")[column]
        for dataset in self._datasets:
            if (n := int((table.index == dataset).sum())) != 1:
                raise SourceError(
                    f"{self.where} has cells of the dataset {dataset!r}, which census_info/datasets lists {n} times: "
                    "the Census is incomplete or damaged; copy it again"
                )
        return table[list(self._datasets)]

    @cached_property
    def _n_measured_cells(self) -> npt.NDArray[np.int64]:
        """In how many cells of the query each gene of the Census was measured."""
        counts = self._seen.n_cells(np.array(list(self._datasets.values()), dtype=np.int64))
        return np.asarray(counts[self._experiment.var["soma_joinid"].to_numpy()])

    @cached_property
    def _seen(self) -> Presence:
        """Which genes each dataset of the query measured."""
        joinids = self._listed("soma_joinid").to_numpy()
        parts = self._experiment.presence(np.sort(joinids))
        if parts is None:
            raise SourceError(
                f"{self.where} has no {PRESENCE}; genes='all' does not help either, the Census is incomplete"
            )
        n_genes = int(self._experiment.var["soma_joinid"].max()) + 1
        return read_presence(pd.Index(self._datasets), joinids, n_genes, parts)

    @cached_property
    def _measured(self) -> Presence | None:
        """Which of the query's genes each of its datasets measured, if there are several and they differ."""
        if len(self._seen) == 1:
            return None
        seen = self._seen.of_genes(self.columns.var["soma_joinid"].to_numpy())
        return None if seen.complete else seen

"""The cells of a source: looked up, counted, sampled. All of it reads obs and no X."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pandas as pd

from ...errors import InputError
from ...support.given import check_call
from ...support.retry import call
from ...traffic import Traffic
from ..compact import Joinids, Sizes
from ..groups import N_DUPLICATES, check_by
from ..sample import Sample, draw, request_of
from .selection import Cells, Selection, select_cells

if TYPE_CHECKING:
    from .experiment import Experiment

T = TypeVar("T")

OPENED = ("_experiment", "_choice", "_line", "_stored", "_stored_array")
"""What a source has looked up that does not depend on its cells."""


class ChosenCells:
    """What sources of a SOMA experiment have in common: which cells they are of."""

    if TYPE_CHECKING:  # what the source itself says

        @property
        def obs_joinids(self) -> Joinids | None: ...  # noqa: D102
        @property
        def samples(self) -> tuple[Sample, ...]: ...  # noqa: D102
        @property
        def where(self) -> str: ...  # noqa: D102
        @property
        def value_filter(self) -> str | None: ...  # noqa: D102
        @property
        def _asked(self) -> str: ...
        @cached_property
        def _experiment(self) -> Experiment: ...
        @property
        def traffic(self) -> Traffic | None: ...  # noqa: D102
        def _believes(self, nnz: Sizes) -> bool: ...
        def _forget(self) -> None: ...

    def count(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Count the cells of each group, from obs alone, in memory for the groups.

        Parameters
        ----------
        by
            Columns of obs, e.g. `["cell_type", "tissue"]`; all cells together by default.

        Returns
        -------
        DataFrame, one row per group, most cells first: the columns, `n_obs`, and `n_duplicates` if obs has
        `is_primary_data`: how many of the `n_obs` are duplicates of cells in other datasets. Missing values are a
        group.

        Raises
        ------
        InputError
            If obs has no such column.

        Examples
        --------
        >>> import headrace as hr, headrace.testing, tempfile
        >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
        >>> liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
        >>> liver.count("assay")["n_obs"].tolist()
        [700]
        """
        check_call(ChosenCells.count, locals())
        names = check_by(by, self._experiment.obs_names, "count", f"{self.where}/obs")
        return self._call(lambda: self._selection.count(names).table(self._selection.marks_duplicates))

    def sample(
        self,
        n: int | None = None,
        *,
        fraction: float | None = None,
        by: str | Sequence[str] | None = None,
        per_group: int | None = None,
        balanced: bool = False,
        min_per_group: int | None = None,
        seed: int = 0,
    ) -> Self:
        """Return the same source with some of its cells: exactly as many as asked for, none twice.

        A cell is taken by a hash of the seed and its soma_joinid: the same cells for the same seed on every machine.
        Reads obs twice, the columns of `by` alone.

        Parameters
        ----------
        n, fraction, per_group
            One of them: how many cells in all; which part of them (rounded); how many of each group.
        by
            Columns of obs that make groups. With `n` or `fraction` each group gives by its size, rounded so that the
            total is exact.
        balanced
            With `n` or `fraction`: each group gives as many as any other, and small ones all they have.
        min_per_group
            Each group of the sample has at least so many; groups of fewer cells are left out.
        seed
            Another one gives other cells.

        Raises
        ------
        InputError
            If a column is not there, or there are fewer cells than `n`.

        Warns
        -----
        SmallGroupsWarning
            If groups have fewer cells than were asked for; it names them.

        Examples
        --------
        >>> import headrace as hr, headrace.testing, tempfile
        >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
        >>> liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
        >>> liver.sample(100, by="cell_type", balanced=True).spec.n_obs
        100
        """
        names = check_by(by, self._experiment.obs_names, "sample", f"{self.where}/obs")
        request = request_of(names, n, fraction, per_group, balanced, min_per_group, seed)

        def drawing() -> Sample:
            selection = self._selection
            return draw(selection.count(names).sizes, lambda: selection.ranked(names), request, "the query")

        drawn = self._call(drawing)
        other = replace(self, samples=(*self.samples, drawn))  # type: ignore[type-var] # a dataclass, where it is mixed in
        other.__dict__.update({name: self.__dict__[name] for name in OPENED if name in self.__dict__})
        return other

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the cells of each value of a column of obs, without reading X; most first."""
        if column not in self._value_counts:
            if column in self.cells.counts:
                self._value_counts[column] = dict(self.cells.counts[column])
            elif column not in self._experiment.obs_names:
                return {}
            else:
                self._value_counts[column] = self._call(lambda: self._selection.count([column]).values())
        return dict(self._value_counts[column])

    @cached_property
    def cells(self) -> Cells:
        """The cells of the query."""
        cells = select_cells(self._selection, self._cell_columns)
        if not len(cells.joinids):
            raise InputError(f"no cell of {self.where} matches: {self._asked}")
        return cells if cells.nnz is None or self._believes(cells.nnz) else replace(cells, nnz=None)

    def _call(self, function: Callable[[], T]) -> T:
        """Call what reads obs, and again if what failed may pass."""
        return call(self.traffic, f"obs of {self.where}", function, self._forget)

    @property
    def _cell_columns(self) -> tuple[str, ...]:
        """Columns of obs whose values are counted when the cells are looked up."""
        return ()

    @property
    def _selection(self) -> Selection:
        obs = self._experiment.obs
        return Selection(obs, self.value_filter, self.obs_joinids, False, self.samples, self.where)

    @property
    def _left_out(self) -> dict[str, Any]:
        """Say in plain values how many cells there were before duplicates and all but a sample were left out."""
        said: dict[str, Any] = {"n_obs": len(self.cells.joinids)}
        if self.cells.duplicates is not None:
            said |= {"n_obs_with_duplicates": self.cells.matched, N_DUPLICATES: self.cells.duplicates}
        if self.samples:
            said["sample"] = [sample.provenance() for sample in self.samples]
        return said

    @cached_property
    def _value_counts(self) -> dict[str, dict[str, int]]:
        return {}

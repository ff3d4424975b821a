"""Tables of groups: statistics of every gene in every group of cells."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..chunk import Holds, StreamSpec
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Fit, Source
from ..stats.groups import Groups
from ..stats.measured import Measured
from ..stats.representation import Representation
from ..stats.statistics import Statistics, StatisticsByGroup, check_number
from ..support.given import check_fields
from .bounds import need_cells
from .grouptable import GroupTable, described

METRICS = ("n_obs", "sum", "mean", "var", "count_nonzero", "fraction")


@dataclass(frozen=True)
class GroupStatistics(Fit):
    """Statistics of every gene in every group of cells, as `scanpy.get.aggregate`; the stream goes on with the groups.

    One row per group that has cells, in the order of the group columns' categories. `obs` has the group columns and
    `n_obs`, the layers are named by the metrics, and `X` is the first of them. `var` stays as it is. Cells without a
    value in one of the columns are left out, and `uns["group_statistics"]` says how many.

    A gene that was not measured is not zero: where datasets with different genes were joined, statistics are over the
    cells whose dataset measured the gene, a layer `n_obs` counts them, and all is NaN where there are none.

    Parameters
    ----------
    by
        Columns of `obs`, e.g. ``["cell_type", "tissue"]``.
    metrics
        "sum"; "mean"; "var", with n - 1, NaN in a group of one cell; "count_nonzero", in how many cells the gene is not
        zero; "fraction", that divided by the number of cells; and "n_obs".
    layer
        Name of a saved layer; None for `X`. Layers end here.

    Raises
    ------
    PlanError
        If a column or layer is missing, or its values are no groups.

    Warns
    -----
    RoundedCountsWarning
        If a sum above 2**24 is not a float32, which is what layers hold.

    Notes
    -----
    One pass. Sums are exact and do not depend on the order of cells; what does not fit in 300 MB goes to a temporary
    file, so that neither groups nor genes need fit in memory. An .h5ad file holds the layers sparse, unless
    `dense=True`. The table of a dot plot is `mean` and `fraction` of logged values: see docs/groups.md.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> obs = pd.DataFrame({"cell_type": pd.Categorical(["T", "B", "T"])}, index=["a", "b", "c"])
    >>> source = ArraySource(np.array([[1, 0], [2, 3], [4, 0]]), obs, pd.DataFrame(index=["g", "h"]))
    >>> table = hr.Plan(source, [hr.GroupStatistics("cell_type", ["mean", "fraction"])]).to_anndata()
    >>> table.to_df("mean").loc["T"].tolist(), table.to_df("fraction").loc["T"].tolist()
    ([2.5, 0.0], [1.0, 0.0])
    """

    by: str | Sequence[str]
    metrics: str | Sequence[str] = METRICS
    layer: str | None = None
    becomes_source = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("by", "metrics"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        if not self.by or len(set(self.by)) < len(self.by):
            raise InputError(f"GroupStatistics(by={list(self.by)!r}): one or more columns of obs, each once")
        for metric in self.metrics:
            if metric not in METRICS:
                raise InputError(f"GroupStatistics(metrics): there is no {metric!r}; {nearest(metric, METRICS)}")
        if not set(self.metrics) - {"n_obs"} or len(set(self.metrics)) < len(self.metrics):
            raise InputError(
                f"GroupStatistics(metrics={list(self.metrics)!r}): each once, and one or more beside 'n_obs', of "
                + ", ".join(METRICS[1:])
            )

    def groups(self, spec: StreamSpec) -> Groups:
        """Return the groups."""
        return Groups.of(spec, tuple(self.by), "GroupStatistics")

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the statistics, and of reading them again."""
        return StatisticsByGroup.memory(self._most(spec), spec.n_vars, _nnz(spec))

    def disk(self, spec: StreamSpec) -> int:
        """Predict the bytes of the temporary file."""
        return StatisticsByGroup.disk(self._most(spec), spec.n_vars, _nnz(spec))

    def _most(self, spec: StreamSpec) -> int:
        return min(len(self.groups(spec)), max(1, spec.n_obs))

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise unless columns and layer are there."""
        if self.layer is not None and self.layer not in spec.layers:
            raise PlanError(
                f"GroupStatistics: no layer {self.layer!r} was saved before; {nearest(self.layer, spec.layers)}"
            )
        groups = self.groups(spec)
        check_number(groups, spec.n_vars, "GroupStatistics")
        self._measured(spec)
        layers = self._layers(spec)
        n = self._most(spec)
        made = StreamSpec(spec.var, spec.obs[list(self.by)].iloc[:0], n, n * spec.n_vars, next(iter(layers.values())))
        made = replace(made, layers=layers, values=spec.values, fractional=None, varm=spec.varm)
        return made.with_obs(n_obs="int64") if "n_obs" in self.metrics else made

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Source[Any]]:
        """Sum up the groups; return them as a source."""
        groups = self.groups(spec)
        found: Statistics = yield StatisticsByGroup(
            groups, spec.n_vars, Representation(self.layer), self._measured(spec)
        )
        if not found.codes:
            need_cells(found.n_missing, spec)
            raise InputError(
                f"GroupStatistics: none of {found.n_missing:,} cells has a value in {', '.join(self.by)}; choose other "
                "columns"
            )
        obs = described(groups, found.codes, spec.obs)
        if "n_obs" in self.metrics:
            obs["n_obs"] = np.array([found.n_cells(code) for code in found.codes], dtype=np.int64)
        about = {
            "by": np.array(self.by, dtype=object),
            "metrics": np.array(self.metrics, dtype=object),
            "n_cells_without_group": found.n_missing,
            **({} if self.layer is None else {"layer": self.layer}),
        }
        uns = spec.uns if self._holds(spec) == Holds.LOGGED else {}  # what it says of values is no longer so
        return GroupTable(found, obs, spec, self._layers(spec), {**uns, "group_statistics": about})

    def _holds(self, spec: StreamSpec) -> Holds:
        return spec.holds if self.layer is None else spec.layers[self.layer]

    def _measured(self, spec: StreamSpec) -> Measured | None:
        """Return what each dataset measured, if that differs."""
        if spec.measured is None or spec.measured.complete:
            return None
        if "dataset_id" not in spec.obs:
            raise PlanError(
                "GroupStatistics: obs has no column 'dataset_id', which says what was measured in a cell; read it, too"
            )
        return Measured.of(spec)

    def _layers(self, spec: StreamSpec) -> dict[str, Holds]:
        """Return the layers and what they hold."""
        holds, whole = self._holds(spec), self._measured(spec) is None  # else there is NaN in them
        counts = Holds.COUNTS if whole else Holds.NORMALIZED
        of_values = Holds.NORMALIZED if holds in (Holds.COUNTS, Holds.UNKNOWN) else holds
        kinds = {
            "sum": counts if holds == Holds.COUNTS and spec.fractional is False else of_values,
            "mean": of_values,
            "var": Holds.NORMALIZED,
            "count_nonzero": counts,
            "fraction": Holds.NORMALIZED,
        }
        layers = {metric: kinds[metric] for metric in self.metrics if metric != "n_obs"}
        return layers if whole or "n_obs" not in self.metrics else {**layers, "n_obs": Holds.COUNTS}


def _nnz(spec: StreamSpec) -> int:
    """Return the most non-zeros that can come."""
    return spec.n_obs * spec.n_vars if spec.nnz is None else spec.nnz

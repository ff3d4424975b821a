"""Where a run looks at its cells for a report, and what is kept of that.

Nothing is looked at that would take another pass: a look that does not fit into the passes of the plan is tried
elsewhere, or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ..chunk import Holds, Limit, StreamSpec
from ..protocols import Step
from ..stats.distributions import FROM_X, CellsOfValues, Distributions, FirstFailed
from ..stats.lengthbias import LengthBias, length_bins
from ..stats.planes import Grid, Together
from ..stats.representation import Representation
from ..steps.observe import Maker, Observe
from .samples import libraries, moments
from .schedule import passes

RAW = (Holds.COUNTS, Holds.UNKNOWN)
GROUPED = ("dataset_id", "assay", "assay_ontology_term_id", "is_primary_data")
"""Columns of `obs` by whose values cells are counted."""

MEASURES = ("total_counts", "n_genes_by_counts")
"""Columns of `obs` whose distribution is shown, besides percentages and what has limits."""

LENGTHS = ("feature_length", "length", "gene_length")
MOST_MEASURES, MOST_GRIDS = 12, 3

Name = tuple[Any, ...]


@dataclass(frozen=True)
class Look:
    """One thing to sum up: its name, the points where it may be done, best first, and what does it."""

    name: Name
    points: Sequence[int]
    make: Maker
    sees_genes: bool


class Observed:
    """A plan's steps, and looks between them.

    A point is a place between steps: 0 before the first one, i after step number i.

    Parameters
    ----------
    spec
        Of the source.
    steps
        The plan's.
    """

    def __init__(self, spec: StreamSpec, steps: Sequence[Step]) -> None:
        self.plain = tuple(steps)
        self.specs = [spec]
        for step in steps:
            self.specs.append(step.preview(self.specs[-1]))
        self.found: dict[Any, Any] = {}
        self.at: dict[Name, int] = {}
        self.looks: list[Look] = []
        self.steps: tuple[Step, ...] = self.plain
        n = len(passes(self.plain))
        for look in self._wanted():
            for point in look.points:
                self.at[look.name] = point
                self.looks.append(look)
                steps_now = self._between()
                if len(passes(steps_now)) == n:
                    self.steps = steps_now
                    break
                self.looks.pop()
                del self.at[look.name]

    @property
    def memory(self) -> int:
        """Predict the bytes of the sums."""
        return sum(step.memory(self.specs[0]) for step in self.steps) - sum(
            step.memory(self.specs[0]) for step in self.plain
        )

    def points(self) -> list[int]:
        """Return for each point which of the specs of a run is that of it."""
        out, number = [], 0
        for point in range(len(self.plain) + 1):
            number += sum(1 for sees in (False, True) if self._here(point, sees))
            out.append(number)
            number += 1
        return out

    def _here(self, point: int, sees_genes: bool) -> list[Look]:
        return [look for look in self.looks if self.at[look.name] == point and look.sees_genes == sees_genes]

    def _between(self) -> tuple[Step, ...]:
        """Return the steps with the looks between them."""
        out: list[Step] = []
        for point in range(len(self.plain) + 1):
            for sees in (False, True):
                here = self._here(point, sees)
                if here:
                    out.append(Observe({look.name: look.make for look in here}, self.found, sees))
            out += self.plain[point : point + 1]
        return tuple(out)

    # ------------------------------------------------------------------------------------------ what to look at
    def _wanted(self) -> list[Look]:
        """Return all that a report would show, the most telling first."""
        last = len(self.plain)
        by_filters = {i + 1 for i in range(last) if len(self.specs[i + 1].filters) > len(self.specs[i].filters)}
        sources = {i + k for i, step in enumerate(self.plain) if step.becomes_source for k in (0, 1)}
        looks = [
            Look(("cells", point), [point], lambda spec: CellsOfValues(grouped(spec)), False)
            for point in sorted({0, last} | by_filters | sources)
        ]
        looks += [*self._rules(), *self._samples(), *self._lengths(), *self._measures(), *self._factors()]
        return [*looks, *self._grids()]

    def _samples(self) -> list[Look]:
        """Return libraries of samples, and mean and variance of genes over samples, as late as X has counts."""
        raw = [i for i, spec in enumerate(self.specs) if spec.samples and spec.holds in RAW]
        if not raw:
            return []
        return [Look(("samples",), raw[::-1], libraries, True), Look(("variances",), raw[::-1], moments, True)]

    def _rules(self) -> list[Look]:
        """Return what counts the cells that each limit of a step with several keeps out."""
        out = []
        for i, (before, after) in enumerate(zip(self.specs, self.specs[1:], strict=False)):
            new = after.limits[len(before.limits) :]
            if len(new) > 1:
                sees = any(limit.measure in FROM_X for limit in new)
                out.append(Look(("rules", i), [i], partial(_first_failed, new), sees))
        return out

    def _raw_points(self) -> list[int]:
        """Return the points up to which X is what the source has: counts."""
        n = next((i for i, spec in enumerate(self.specs) if spec.holds not in RAW or spec.samples), len(self.specs))
        return list(range(n))

    def _measures(self) -> list[Look]:
        """Return distributions before and after filtering, of what there is of each cell."""
        out = []
        raw = self._raw_points()
        if raw:
            out.append(Look(("before", *FROM_X), [0], partial(_distributions, FROM_X), True))
            if any(len(self.specs[i].filters) for i in raw):
                later = [i for i in reversed(raw) if self.specs[i].filters]
                out.append(Look(("after", *FROM_X), later, partial(_distributions, FROM_X), True))
            out.append(Look(("together",), raw[::-1], lambda spec: Together("n_counts", "n_genes"), True))
        limited = {limit.measure for limit in self.specs[-1].limits} - set(FROM_X)
        seen: dict[str, list[int]] = {}
        for i, spec in enumerate(self.specs):
            for name in spec.obs:
                telling = (
                    (name in MEASURES and not raw)
                    or (name.startswith("pct_") and "_in_top_" not in name)
                    or name in limited
                )
                if telling and pd.api.types.is_numeric_dtype(spec.obs[name].dtype):
                    seen.setdefault(name, []).append(i)
        for name, points in list(seen.items())[:MOST_MEASURES]:
            first = [i for i in points if self.specs[i].filters == self.specs[points[0]].filters]
            make = partial(_distributions, (name,))
            out.append(Look(("before", name), first, make, False))
            if len(self.specs[points[-1]].filters) > len(self.specs[points[0]].filters):
                out.append(Look(("after", name), [points[-1]], make, False))
        return out

    def _factors(self) -> list[Look]:
        """Return the distribution of what cells were divided by, where a step notes it in `obs`."""
        out = []
        for i, step in enumerate(self.plain):
            if step.scales_cells:
                for name in self.specs[i + 1].obs.columns.difference(self.specs[i].obs.columns):
                    last = max(j for j, spec in enumerate(self.specs) if name in spec.obs)
                    out.append(Look(("factor", name), [last], partial(_distributions, (name,)), False))
        return out

    def _lengths(self) -> list[Look]:
        """Return how expression goes with gene length, before and after what corrects it."""
        corrected = next((i for i, step in enumerate(self.plain) if step.corrects_length), None)
        raw = self._raw_points()
        if corrected is not None:
            before, after = corrected, corrected + 1
        elif raw:
            normalized = [i for i, spec in enumerate(self.specs) if spec.holds == Holds.NORMALIZED]
            before, after = raw[-1], normalized[-1] if normalized else raw[-1]
        else:
            before = after = 0
        between = self.plain[before:after]
        points = {"before": before}
        if not all(step.scales_cells or step.annotates for step in between):
            points["after"] = after
        return [
            Look(("lengths", when), [point], length_bias, True)
            for when, point in points.items()
            if length_column(self.specs[point]) and self.specs[point].holds != Holds.STANDARDIZED
        ]

    def _grids(self) -> list[Look]:
        """Return the cells in the first two coordinates of what `obsm` has."""
        names = [name for name, empty in self.specs[-1].obsm.items() if empty.shape[1] > 1]
        names.sort(key=lambda name: (name != "X_pca", name))
        last = len(self.plain)
        return [Look(("grid", name), [last], partial(_grid, name), False) for name in names[:MOST_GRIDS]]


def _first_failed(limits: Sequence[Limit], spec: StreamSpec) -> FirstFailed:
    del spec
    return FirstFailed(limits)


def _distributions(measures: Sequence[str], spec: StreamSpec) -> Distributions:
    del spec
    return Distributions(measures)


def _grid(name: str, spec: StreamSpec) -> Grid:
    del spec
    return Grid(name)


def grouped(spec: StreamSpec) -> list[str]:
    """Return the columns of `obs` by whose values cells are counted; an assay by its name, if it has one."""
    names = [name for name in GROUPED if name in spec.obs and spec.obs[name].dtype.kind not in "fiu"]
    return [name for name in names if name != "assay_ontology_term_id" or "assay" not in names]


def length_column(spec: StreamSpec) -> str | None:
    """Return the column of `var` with gene lengths."""
    there = [name for name in LENGTHS if name in spec.var and pd.api.types.is_numeric_dtype(spec.var[name].dtype)]
    return there[0] if there else None


def length_bias(spec: StreamSpec) -> LengthBias:
    """Return what sums up expression by gene length."""
    column = length_column(spec)
    assert column is not None
    bins, edges = length_bins(np.nan_to_num(spec.var[column].to_numpy(np.float64, na_value=np.nan)))
    assay = next((name for name in ("assay", "assay_ontology_term_id") if name in spec.obs), None)
    logged = spec.holds == Holds.LOGGED
    base = spec.uns["log1p"]["base"] if logged and "log1p" in spec.uns else None
    return LengthBias(bins, edges, assay, Representation(unlog=logged, base=base))

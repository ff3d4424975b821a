"""What is kept of a run for its report: plain data, the same to the bit for every chunk size and number of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..chunk import StreamSpec
from ..protocols import Source, Step
from ..stats.distributions import LOG_EDGES, places
from ..steps.normalize import FULL_GENE_ASSAYS
from .explain import described
from .observed import GROUPED, RAW, Observed, grouped
from .recipe import recipe_text
from .samples import kept_samples, kept_variances

VERSION = 1
"""Of the layout of what is kept."""

MOST_VALUES = 60
"""Datasets, or assays, whose cells are kept one by one; the others are summed up."""

OTHERS = "(others)"
"""What stands for them."""

SCORES = ("dispersions_norm", "variances_norm", "residual_variances")
"""Columns of `var` by which genes are chosen."""

STEP = 0.1
"""The width of a bin of scores that may be negative."""


def keep(
    source: Source[Any], steps: Sequence[Step], observed: Observed, specs: Sequence[StreamSpec], n_obs: int
) -> dict[str, Any]:
    """Return all that a report needs, as plain data.

    Parameters
    ----------
    observed
        With what it has found.
    specs
        The stream at every point, as it turned out.
    n_obs
        Cells that were written.
    """
    found = observed.found
    query = source.provenance().get("query", {})
    return {
        "version": VERSION,
        "recipe": recipe_text(steps, query if isinstance(query, Mapping) else {}),
        "funnel": _funnel(source, observed, specs, n_obs),
        "measures": _measures(observed, specs),
        "together": found.get(("together",)),
        "lengths": {name[1]: found[name] for name in found if name[0] == "lengths"},
        "corrected": any(step.corrects_length for step in steps) or "length_normalized" in source.spec.obs,
        "counts": source.spec.holds in RAW or bool(steps),
        "full_length": _full_length(source),
        "genes": next((drawn for spec in specs if (drawn := genes(spec.var)) is not None), None),
        "grids": {name[1]: found[name] for name in found if name[0] == "grid"},
        "variance_ratio": variance_ratio(specs[-1].uns),
        **_samples(source, found),
    }


def _samples(source: Source[Any], found: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what is known of samples, where rows are samples; of cells there is nothing more to keep."""
    if ("samples",) not in found and ("variances",) not in found:
        return {}
    obs = source.spec.whole_obs if source.spec.samples else None
    order = None if obs is None else list(obs.index)
    return {
        "samples": kept_samples(found.get(("samples",)), order),
        "variances": kept_variances(found.get(("variances",))),
    }


def _funnel(source: Source[Any], observed: Observed, specs: Sequence[StreamSpec], n_obs: int) -> list[dict[str, Any]]:
    """Return what was left of cells and genes at the start, after each step that left some out, and at the end."""
    found, steps = observed.found, observed.plain
    last = len(steps)
    rows: list[dict[str, Any]] = []
    chosen: dict[str, list[str]] = {}
    for point in range(last + 1):
        cells = found.get(("cells", point))
        if cells is None and point == 0:
            by = {name: dict(source.value_counts(name)) for name in grouped(specs[0])}
            cells = {"n": specs[0].n_obs, "by": by}
        if cells is None and point == last:
            cells = {"n": n_obs, "by": {}}
        n_genes = specs[point].n_vars
        fewer = point > 0 and n_genes != specs[point - 1].n_vars
        if cells is None and not fewer:
            continue
        row: dict[str, Any] = {
            "after": _name(steps, specs, point),
            "cells": None if cells is None else cells["n"],
            "by": {} if cells is None else {name: _few(by, chosen.get(name)) for name, by in _grouped(cells)},
            "genes": n_genes,
            "samples": specs[point].samples,
            "rules": _rules(found, observed, point),
        }
        if point in (0, last) or row["cells"] is None or fewer or row["cells"] != _cells(rows) or row["rules"]:
            rows.append(row)
            for name, by in row["by"].items():
                chosen.setdefault(name, [value for value in by if value != OTHERS])
    return rows


def _grouped(cells: Mapping[str, Any]) -> list[tuple[str, Mapping[str, int]]]:
    return [(name, by) for name, by in cells["by"].items() if name in GROUPED]


def _name(steps: Sequence[Step], specs: Sequence[StreamSpec], point: int) -> str:
    """Return the step before a point as it is written; nothing at the start, and after a last step that keeps all."""
    if point == 0 or (point == len(steps) and steps[-1].annotates):
        return ""
    return "\n".join(described(steps[point - 1 : point]))


def _cells(rows: Sequence[Mapping[str, Any]]) -> int | None:
    return next((row["cells"] for row in reversed(rows) if row["cells"] is not None), None)


def _rules(found: Mapping[Any, Any], observed: Observed, point: int) -> list[dict[str, Any]]:
    """Return what each limit of the step before a point has kept out."""
    removed = found.get(("rules", point - 1))
    if removed is None:
        return []
    new = observed.specs[point].limits[len(observed.specs[point - 1].limits) :]
    return [
        {"measure": limit.measure, "low": limit.low, "high": limit.high, "removed": n}
        for limit, n in zip(new, removed, strict=True)
    ]


def _few(by: Mapping[str, int], chosen: Sequence[str] | None) -> dict[str, int]:
    """Return the values with most cells, or those that were chosen before, and the others in one."""
    most = dict(list(by.items())[:MOST_VALUES]) if chosen is None else {v: by[v] for v in chosen if by.get(v)}
    others = sum(by.values()) - sum(most.values())
    return {**most, **({OTHERS: others} if others else {})}


def _measures(observed: Observed, specs: Sequence[StreamSpec]) -> dict[str, Any]:
    """Return the distributions, with the limits that were set to each measure."""
    out: dict[str, Any] = {}
    for name, found in observed.found.items():
        if name[0] in ("before", "after", "factor"):
            for measure, distribution in found.items():
                out.setdefault(measure, {"limits": []})[name[0]] = distribution
    for limit in dict.fromkeys(specs[-1].limits):
        if limit.measure in out and (limit.low, limit.high) != (None, None):
            out[limit.measure]["limits"].append([limit.low, limit.high])
    return out


def _full_length(source: Source[Any]) -> dict[str, int]:
    """Return the cells of each assay that reads whole transcripts, by its name."""
    counts = source.value_counts("assay_ontology_term_id")
    return {FULL_GENE_ASSAYS[assay]: n for assay, n in counts.items() if assay in FULL_GENE_ASSAYS}


def genes(var: pd.DataFrame) -> dict[str, Any] | None:
    """Return genes in the plane of mean and variance, or dispersion, by bins; None if `var` does not have them.

    The bins are those of `LOG_EDGES`; of normalised dispersions, which may be negative, `STEP` wide. With variances
    comes the trend that genes were held against: in each bin of means the median of variance / normalised variance.
    """
    score = next((name for name in SCORES if name in var and "means" in var), None)
    if score is None or "highly_variable" not in var:
        return None
    mean, norm = _numbers(var["means"]), _numbers(var[score])
    drawn = "variances" if score == "variances_norm" and "variances" in var else score
    y = _numbers(var[drawn])
    chosen = var["highly_variable"].to_numpy(bool)
    there = np.isfinite(mean) & np.isfinite(y) & (mean > 0) & ((y > 0) | (drawn == "dispersions_norm"))
    i = places(mean[there], LOG_EDGES)
    if drawn == "dispersions_norm":
        j = np.floor(np.clip(y[there], -1e6, 1e6) / STEP).astype(np.int64)
    else:
        j = places(y[there], LOG_EDGES)
    at, n = np.unique(np.stack([i, j, chosen[there].astype(np.int64)], axis=1), axis=0, return_counts=True)
    line = []
    if drawn == "variances":
        expected = np.divide(y, norm, out=np.full(len(y), np.nan), where=norm > 0)[there]
        known = np.isfinite(expected)
        line = [[int(k), float(f"{np.median(expected[known & (i == k)]):.6g}")] for k in np.unique(i[known])]
    return {
        "score": drawn,
        "cells": [[*map(int, one), int(k)] for one, k in zip(at, n, strict=True)],
        "line": line,
        "chosen": int(chosen.sum()),
        "genes": len(var),
    }


def variance_ratio(uns: Mapping[str, Any]) -> list[float] | None:
    """Return the share of the variance of each principal component, if there are any."""
    pca = uns.get("pca")
    if not isinstance(pca, Mapping) or "variance_ratio" not in pca:
        return None
    return [float(f"{x:.6g}") for x in np.asarray(pca["variance_ratio"], dtype=np.float64).ravel()[:100]]


def _numbers(column: pd.Series) -> Any:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)

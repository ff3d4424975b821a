"""What a report shows of samples: the library of each, and how the variance of genes goes with their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .advice import Advice
from .amounts import log_edge, short, whole
from .figures import Figure
from .svg import Axis, Plot

HEADS = {
    "libsize": "counts",
    "n_genes": "genes above 0",
    "n_cells": "cells",
    "norm_factors": "normalisation factor",
    "effective_libsize": "counts × factor",
    "size_factors": "size factor",
}

FAR = 2.0
"""A normalisation factor beyond this, or below its inverse, is worth a look."""


def libraries(about: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the table of samples, as many as were kept one by one, and histograms where there are more."""
    if about is None:
        return None
    names, columns = about.get("names"), about.get("columns", {})
    shown = [name for name in HEADS if name in columns]
    most = max((x for x in columns.get("libsize", ()) if x), default=1)
    rows = []
    for at, name in enumerate(names or ()):
        values = [columns[column][at] for column in shown]
        rows.append(
            (name, 100 * (columns["libsize"][at] or 0) / most, [_text(*one) for one in zip(shown, values, strict=True)])
        )
    drawn = []
    if not rows:
        for name, title in (("libsize", "counts of samples"), ("norm_factors", "normalisation factors")):
            if name in about:
                found = figures.histogram(title, {"factor": about[name], "limits": []}, unit="samples")
                drawn += [] if found is None else [found]
    return {"heads": [HEADS[name] for name in shown], "rows": rows, "figures": drawn}


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if name in ("norm_factors", "size_factors") else whole(value)


def variances(cells: Sequence[Sequence[int]] | None) -> Figure | None:
    """Draw mean against variance of genes over samples, with the line of counts that differ by chance alone."""
    if not cells:
        return None
    low, high = log_edge(min(i for i, *_ in cells)), log_edge(max(i for i, *_ in cells) + 1)
    x = Axis(low, high, "mean of counts", log=True)
    bottom = min(low, log_edge(min(j for _, j, _ in cells)))
    y = Axis(bottom, max(high, log_edge(max(j for _, j, _ in cells) + 1)), "variance of counts", log=True)
    genes = sum(n for *_, n in cells)
    above = sum(n for i, j, n in cells if j > i)
    said = (
        f"{whole(genes)} genes that vary, {whole(above)} of them above the line on which counts differ by chance alone "
        "(Poisson: variance = mean). Counts are as they are, so that libraries of different sizes add to the variance."
    )
    plot = Plot(x, y, "Mean against variance of genes over samples", said, height=250)
    figures.heat(plot, [(log_edge(i), log_edge(i + 1), log_edge(j), log_edge(j + 1), n) for i, j, n in cells], "heat")
    plot.line([(low, low), (high, high)], "trend")
    return Figure("mean against variance of genes", str(plot), said, (("heat", "genes"), ("trend", "variance = mean")))


def advise_samples(about: Mapping[str, Any] | None) -> list[Advice]:
    """Return what to look at in samples: factors far from 1, libraries far smaller than the others."""
    if about is None:
        return []
    out = []
    factors = about.get("norm_factors")
    if factors and factors["least"] and (factors["least"] < 1 / FAR or factors["most"] > FAR):
        which = _which(about, "norm_factors", lambda x: x < 1 / FAR or x > FAR)
        out.append(
            Advice(
                f"Normalisation factors go from {short(factors['least'])} to {short(factors['most'])}{which}",
                "A sample whose factor is far from 1 has a few genes with a large part of its counts, or differs from "
                "the others in most of its genes; that most genes do not differ is what the factors rest on.",
                "Look at this sample on its own (contamination, another tissue, few counts); leave it out if need be.",
            )
        )
    sizes = about["libsize"]
    if sizes["least"] is not None and sizes["most"] > 10 * max(sizes["least"], 1e-9):
        which = _which(about, "libsize", lambda x: x < sizes["most"] / 10)
        out.append(
            Advice(
                f"Libraries go from {short(sizes['least'])} to {short(sizes['most'])} counts{which}",
                "Genes with few counts are zero in small libraries by chance alone, and their logarithms vary more.",
                "Give voom, or another method that weighs samples, the counts; or leave small libraries out "
                "(FilterCells(min_counts=...)).",
            )
        )
    return out


def _which(about: Mapping[str, Any], column: str, far: Any) -> str:
    """Name the samples, where each is known."""
    values = about.get("columns", {}).get(column, ())
    names = [name for name, x in zip(about.get("names", ()), values, strict=True) if x is not None and far(x)]
    return f": {', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else ""

"""The pictures of a report, each from plain data that was kept of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10, sqrt
from typing import Any

from .amounts import counted, log_edge, share, short, size, whole
from .svg import Axis, Plot

NAMES = {
    "n_counts": "counts per cell (total of X)",
    "n_genes": "genes per cell (above 0)",
    "total_counts": "total_counts",
    "n_genes_by_counts": "n_genes_by_counts",
}


@dataclass(frozen=True)
class Figure:
    """A picture, and what is said below it."""

    title: str
    picture: str
    caption: str
    keys: tuple[tuple[str, str], ...] = ()
    """Of the legend: a class of the style, and what it stands for."""


SHADES = 8

WIDTHS = {"pct_": 1.0, "log1p_": 0.1, "normalisation factor": 0.02}
"""The width of the bins of measures that are drawn on an even axis, by how their names begin."""


def width(measure: str) -> float:
    """Return the width of the bins of a measure; 0 for those whose bins are a part of a decade."""
    return next((wide for begin, wide in WIDTHS.items() if measure.startswith(begin)), 0.0)


def bin_edges(measure: str, number: int) -> tuple[float, float]:
    """Return where a bin begins and ends."""
    wide = width(measure)
    if wide:
        return number * wide, (number + 1) * wide
    return log_edge(number), log_edge(number + 1)


def median_of(distribution: Mapping[str, Any], measure: str) -> float | None:
    """Return the median as far as bins tell it: the middle of the bin that it is in."""
    total = sum(n for _, n in distribution["bins"])
    seen = 0
    for number, n in distribution["bins"]:
        seen += n
        if 2 * seen >= total:
            low, high = bin_edges(measure, number) if number >= 0 else (0.0, 0.0)
            return (low + high) / 2 if width(measure) else sqrt(low * high)
    return None


def histogram(measure: str, about: Mapping[str, Any], unit: str = "cells") -> Figure | None:
    """Draw the distribution of a measure before and after filtering, with the limits."""
    kinds = [kind for kind in ("before", "after", "factor") if kind in about and about[kind]["bins"]]
    inside = [[(i, n) for i, n in about[kind]["bins"] if i >= 0] for kind in kinds]
    numbers = [i for bins in inside for i, _ in bins]
    if not numbers:
        return None
    limits = about["limits"]
    wide = width(measure)
    bounds = [x for pair in limits for x in pair if x is not None and (wide or x > 0)]
    low, high = bin_edges(measure, min(numbers))[0], bin_edges(measure, max(numbers))[1]
    near = [x for x in bounds if wide or low / 10 <= x <= high * 10]
    low, high = min([low, *near]), max([high, *near])
    if wide:
        low, high = max(0.0, low - wide), high + wide
        low, high = (low, high) if high - low >= 5 * wide else (max(0.0, low - 2 * wide), high + 3 * wide)
    elif high / low < 4:
        low, high = low / 1.5, high * 1.5
    most = max(n for bins in inside for _, n in bins)
    name = NAMES.get(measure, measure)
    said = _said(measure, about, kinds, limits, unit)
    plot = Plot(Axis(low, high, name, log=not wide), Axis(0, most * 1.08, unit), f"Histogram of {name}", said)
    for kind, bins in zip(kinds, inside, strict=True):
        edges = [bin_edges(measure, i) for i, _ in bins]
        plot.steps(edges, [n for _, n in bins], kind if len(kinds) > 1 or kind == "factor" else "after")
    drawn = _drawn(bounds)
    for x in drawn:
        plot.upright(x, "limit", short(x) if len(drawn) <= 2 or x in (drawn[0], drawn[-1]) else "", left=x == drawn[0])
    keys = (("before", "before filtering"), ("after", "after")) if len(kinds) > 1 else (("after", unit),)
    return Figure(name, str(plot), said, (*keys, *((("limit", "limit"),) if bounds else ())))


def _drawn(bounds: Sequence[float]) -> list[float]:
    """Return the limits that are drawn: all, or of those of many batches the outermost and the middle ones."""
    some = sorted(set(bounds))
    return some if len(some) <= 6 else [some[i * (len(some) - 1) // 5] for i in range(6)]


def _said(
    measure: str, about: Mapping[str, Any], kinds: Sequence[str], limits: Sequence[Sequence[Any]], unit: str
) -> str:
    parts = []
    for kind in kinds:
        found = about[kind]
        n = sum(k for _, k in found["bins"])
        when = f"{kind.capitalize()}: " if len(kinds) > 1 else ""
        middle = median_of(found, measure)
        parts.append(
            f"{when}{counted(n, unit)}, {short(found['least'])} to {short(found['most'])}, "
            f"median about {short(min(max(middle or 0, found['least']), found['most']))}."
        )
        nothing = sum(k for i, k in found["bins"] if i < 0)
        if nothing:
            parts.append(f"{counted(nothing, unit)} with 0 or less, not drawn.")
        if found["missing"]:
            parts.append(f"{counted(found['missing'], unit)} without a value.")
    if len(limits) > 1 and len({tuple(pair) for pair in limits}) > 2:
        parts.append(f"Limits of {len(limits)} batches.")
    return " ".join(parts)


def together(cells: Sequence[Sequence[int]]) -> Figure | None:
    """Draw genes against counts of cells, by bins."""
    inside = [(i, j, n) for i, j, n in cells if i >= 0 and j >= 0]
    if len(inside) < 2:
        return None
    x = Axis(
        log_edge(min(i for i, _, _ in inside)), log_edge(max(i for i, _, _ in inside) + 1), "counts per cell", True
    )
    y = Axis(log_edge(min(j for _, j, _ in inside)), log_edge(max(j for _, j, _ in inside) + 1), "genes per cell", True)
    said = _heat_said(inside)
    plot = Plot(x, y, "Genes against counts per cell", said)
    heat(plot, [(log_edge(i), log_edge(i + 1), log_edge(j), log_edge(j + 1), n) for i, j, n in inside], "heat")
    return Figure("genes against counts", str(plot), said)


def _heat_said(cells: Sequence[Sequence[int]]) -> str:
    n = [one[-1] for one in cells]
    return f"{counted(sum(n), 'cells')}; darker squares have more, up to {whole(max(n))}."


def heat(plot: Plot, boxes: Sequence[tuple[float, float, float, float, int]], kind: str) -> None:
    """Add squares, the more opaque the more is in them, in `SHADES` steps."""
    most = max((n for *_, n in boxes), default=1)
    shades: dict[int, list[tuple[float, float, float, float]]] = {}
    for x0, x1, y0, y1, n in boxes:
        shades.setdefault(round(SHADES * log10(n + 1) / log10(most + 1)), []).append((x0, x1, y0, y1))
    for shade, some in sorted(shades.items()):
        plot.squares(some, kind, 0.15 + 0.85 * shade / SHADES)


def variable_genes(about: Mapping[str, Any]) -> Figure:
    """Draw mean against variance with its trend, or against dispersion; the chosen genes in another colour."""
    log = about["score"] != "dispersions_norm"
    label = {
        "variances": "variance",
        "dispersions_norm": "normalised dispersion",
        "residual_variances": "variance of residuals",
    }.get(about["score"], about["score"])

    def edges(j: int) -> tuple[float, float]:
        return (log_edge(j), log_edge(j + 1)) if log else (j * 0.1, (j + 1) * 0.1)

    cells = [one for one in about["cells"] if not log or one[1] >= 0]
    shown = _central(cells)
    x = Axis(log_edge(min(i for i, *_ in shown)), log_edge(max(i for i, *_ in shown) + 1), "mean", True)
    y = Axis(edges(min(j for _, j, *_ in shown))[0], edges(max(j for _, j, *_ in shown))[1], label, log)
    said = f"{whole(about['chosen'])} of {whole(about['genes'])} genes were chosen."
    missed = sum(one[3] for one in cells) - sum(one[3] for one in shown)
    if missed:
        said += f" {whole(missed)} genes lie outside the picture."
    plot = Plot(x, y, f"Mean against {label} of genes", said, height=250)
    for kind, name in ((0, "heat-other"), (1, "heat-chosen")):
        boxes = [(log_edge(i), log_edge(i + 1), *edges(j), n) for i, j, k, n in shown if k == kind]
        heat(plot, [(a, b, c, d, n) for a, b, c, d, n in boxes], name)
    keys: tuple[tuple[str, str], ...] = (("heat-chosen", "chosen"), ("heat-other", "not chosen"))
    if about["line"]:
        inside = [(sqrt(log_edge(i) * log_edge(i + 1)), v) for i, v in about["line"] if x.low <= log_edge(i) < x.high]
        plot.line([(a, min(max(v, y.low), y.high)) for a, v in inside], "trend")
        keys = (*keys, ("trend", "trend"))
    return Figure(f"mean against {label}", str(plot), said, keys)


def _central(cells: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Leave out the outermost thousandth of genes that were not chosen, so that one gene does not set the scale."""
    total = sum(one[3] for one in cells)
    if total < 2000:
        return list(cells)
    out = list(cells)
    for column in (0, 1):
        for ends in (1, -1):
            order = sorted(out, key=lambda one: ends * one[column])  # used at once
            left, spared = total // 1000, 0
            while spared < len(order) and order[spared][3] <= left and not order[spared][2]:
                left -= order[spared][3]
                spared += 1
            out = order[spared:]
    return out


def components(ratio: Sequence[float]) -> Figure:
    """Draw the share of the variance of each principal component."""
    said = f"{len(ratio)} components have {share(sum(ratio), 1.0)} of the variance, the first {share(ratio[0], 1.0)}."
    plot = Plot(
        Axis(0.5, len(ratio) + 0.5, "principal component"), Axis(0, max(ratio) * 1.08, "share of variance"),
        "Variance of principal components", said,
    )  # fmt: skip
    for i, part in enumerate(ratio, 1):
        plot.box(i - 0.4, i + 0.4, 0, part, "bar")
    return Figure("variance ratio", str(plot), said)


def grid(name: str, about: Mapping[str, Any]) -> Figure | None:
    """Draw cells in the plane of two coordinates."""
    cells, side = about["cells"], about["side"]
    if not cells:
        return None
    label = name.removeprefix("X_").upper()
    label = {"PCA": "PC"}.get(label, label + " ")
    x = Axis(min(i for i, *_ in cells) * side, (max(i for i, *_ in cells) + 1) * side, f"{label}1")
    y = Axis(min(j for _, j, _ in cells) * side, (max(j for _, j, _ in cells) + 1) * side, f"{label}2")
    said = _heat_said(cells)
    plot = Plot(x, y, f"Cells in {name}", said, height=300)
    heat(plot, [(i * side, (i + 1) * side, j * side, (j + 1) * side, n) for i, j, n in cells], "heat")
    return Figure(f"{label}1 and {label}2", str(plot), said)


def memory(samples: Sequence[tuple[float, int]], begun: Sequence[float], budget: int) -> Figure | None:
    """Draw memory over time against the budget, with the beginnings of the passes."""
    if len(samples) < 2:
        return None
    most, end = max(held for _, held in samples), samples[-1][0]
    shown = budget if budget < 4 * most else 0  # a budget far above would press the line to the ground
    unit, name = (1e9, "GB") if max(most, shown) >= 1e9 else (1e6, "MB")
    said = f"At most {size(most)} of a budget of {size(budget)}."
    top = max(most, shown) / unit * 1.15
    plot = Plot(Axis(0, max(end, 0.01), "seconds"), Axis(0, top, f"memory, {name}"), "Memory over time", said)
    free = 0.0
    for number, at in enumerate(begun, 1):
        begins = plot.at_x(at) - (50 if plot.turns(at) else 0)
        fits = begins >= free  # labels that would stand on one another are left out
        plot.upright(at, "pass", f"pass {number}" if fits else "")
        free = begins + 50 if fits else free
    plot.line([(at, held / unit) for at, held in samples], "memory")
    if shown:
        plot.level(budget / unit, "limit", "budget")
    return Figure(
        "memory over time", str(plot), said, (("memory", "memory"), *((("limit", "budget"),) if shown else ()))
    )

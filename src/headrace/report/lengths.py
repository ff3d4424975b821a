"""How expression goes with gene length, drawn, and in one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10, sqrt
from typing import Any

from .amounts import counted
from .figures import Figure
from .svg import Axis, Plot


def slope(edges: Sequence[float], genes: Sequence[int], mean: Sequence[float]) -> float | None:
    """Return by how much the mean of log1p grows with every doubling of length, by least squares over genes."""
    points = [
        (log10(sqrt(a * b)) / log10(2), m, n)
        for a, b, m, n in zip(edges, edges[1:], mean, genes, strict=False)
        if n and a > 0
    ]
    total = sum(n for *_, n in points)
    if len(points) < 3 or not total:
        return None
    cx, cy = (sum(p[k] * p[2] for p in points) / total for k in (0, 1))
    spread = sum(n * (x - cx) ** 2 for x, _, n in points)
    return sum(n * (x - cx) * (y - cy) for x, y, n in points) / spread if spread else None


def length_bias(lengths: Mapping[str, Any], assay: str, corrected: bool) -> Figure | None:
    """Draw the mean of log expression by gene length in the cells of an assay, before and after."""
    lines: dict[str, list[tuple[float, float]]] = {}
    slopes: dict[str, float] = {}
    for when in ("before", "after"):
        about = lengths.get(when)
        if about is None or assay not in about["assays"] or len(about["edges"]) < 3:
            continue
        edges, mean = about["edges"], about["assays"][assay]["mean"]
        lines[when] = [(sqrt(max(a, 1) * max(b, 1)), m) for a, b, m in zip(edges, edges[1:], mean, strict=False)]
        found = slope(edges, about["genes"], mean)
        if found is not None:
            slopes[when] = found
    if not lines:
        return None
    points = [point for line in lines.values() for point in line]
    top = max(y for _, y in points) * 1.1 or 1.0
    first = next(lengths[when] for when in ("before", "after") if when in lines)
    said = f"{counted(first['assays'][assay]['cells'], 'cells')}. "
    words = {
        "before": "counts as they are" if "after" in lines else "expression",
        "after": "after the correction" if corrected else "as written",
    }
    said += (
        "For every doubling of length, mean log1p changes by "
        + ", ".join(f"{found:+.3f} ({words[when]})" for when, found in slopes.items())
        + "."
    )
    x = Axis(min(x for x, _ in points) / 1.15, max(x for x, _ in points) * 1.15, "gene length, bases", True)
    plot = Plot(x, Axis(0, top, "mean log1p of counts per 10,000"), f"Expression by gene length, {assay}", said)
    for when, line in lines.items():
        plot.line(line, "bias-before" if when == "before" and "after" in lines else "bias-after", dots=True)
    keys = (("bias-before", "before"), ("bias-after", "after")) if len(lines) > 1 else (("bias-after", "expression"),)
    return Figure(assay, str(plot), said, keys)

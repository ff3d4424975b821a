"""Draw the pictures of the documentation: the pipeline, and the rooms of the code as CONTRIBUTING.md has them."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STYLE = (
    "<style>text{font:14px system-ui,sans-serif;fill:#1b2330}.s{font-size:11px;fill:#535f6e}.b{fill:#fff;"
    "stroke:#0b63b0;stroke-width:1.5}.f{fill:#e8f1fa;stroke:#0b63b0;stroke-width:1.5}.a{stroke:#7b8794;stroke-width:1.5;fill:none}"
    ".h{fill:#7b8794}.bg{fill:#fff}</style>"
)


def box(x: float, y: float, w: float, h: float, title: str, below: str = "", kind: str = "b") -> str:
    """Return a box with a title and a line below it."""
    middle = y + h / 2 + (5 if not below else -2)
    said = (
        f'<text class="s" x="{x + w / 2}" y="{y + h / 2 + 15}" text-anchor="middle">{escape(below)}</text>'
        if below
        else ""
    )
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{w}" height="{h}" rx="7"/>'
        f'<text x="{x + w / 2}" y="{middle}" text-anchor="middle">{escape(title)}</text>{said}'
    )


def arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    """Return a line with a head."""
    return f'<path class="a" d="M{x0},{y0}L{x1 - 6},{y1}"/><path class="h" d="M{x1},{y1}l-8,-4.5v9z"/>'


def picture(height: float, parts: list[str]) -> str:
    """Return a picture of 720 by some height."""
    frame = f'<rect class="bg" width="720" height="{height}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}">{STYLE}{frame}{"".join(parts)}</svg>\n'


def pipeline() -> str:
    """Return the picture of a plan."""
    parts = []
    sources = [
        ("Census, SOMA", "near or far"),
        (".h5ad, .h5mu", "CSR, CSC, dense"),
        ("10x", ".h5, .mtx"),
        ("bulk tables", "text, salmon, ..."),
    ]
    for i, (name, below) in enumerate(sources):
        parts += [box(10, 14 + 56 * i, 140, 46, name, below), arrow(150, 37 + 56 * i, 196, 121)]
    steps = ["filter cells and genes", "gene length", "totals, log", "variable genes, QC"]
    parts.append('<rect class="f" x="200" y="14" width="290" height="214" rx="9"/>')
    parts.append('<text class="s" x="345" y="34" text-anchor="middle">chunks of cells, in flat memory</text>')
    parts += [box(225, 46 + 44 * i, 240, 34, name) for i, name in enumerate(steps)]
    for y, name, below in (
        (20, ".h5ad", "whole or not at all"),
        (98, "AnnData, tables", "in memory"),
        (176, "report", "one page of HTML"),
    ):
        parts += [box(540, y, 170, 50, name, below), arrow(490, 121, 538, y + 25)]
    return picture(244, parts)


def rooms() -> str:
    """Return the picture of the rooms, in rows by how many arrows lie below a room."""
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    names = dict(re.findall(r'^\s*(\w+)\["(?:<b>)?([\w/]+)(?:</b>)?', drawn, re.MULTILINE))
    arrows = set()
    for line in drawn.splitlines():
        if "-->" in line:
            left, right = ([one.strip() for one in part.split("&")] for part in line.split("-->"))
            arrows |= {(a, b) for a in left for b in right}

    def depth(one: str) -> int:
        return max((depth(b) + 1 for a, b in arrows if a == one), default=0)

    rows: dict[int, list[str]] = {}
    for one in names:
        rows.setdefault(depth(one), []).append(one)
    top, place, parts = max(rows), {}, []
    for level, row in rows.items():
        for i, one in enumerate(row):
            place[one] = ((i + 0.5) * 720 / len(row), 20 + (top - level) * 66)
    for a, b in sorted(arrows):
        (x0, y0), (x1, y1) = place[a], place[b]
        parts.append(
            f'<path class="a" opacity="0.55" d="M{x0:.0f},{y0 + 36}'
            f'C{x0:.0f},{y0 + 56} {x1:.0f},{y1 - 20} {x1:.0f},{y1}"/>'
        )
    parts += [box(x - 58, y, 116, 36, names[one]) for one, (x, y) in place.items()]
    height = 20 + top * 66 + 52
    return picture(height, parts)


if __name__ == "__main__":
    out = ROOT / "docs" / "_static"
    (out / "pipeline.svg").write_text(pipeline())
    (out / "rooms.svg").write_text(rooms())

"""Pictures in SVG, drawn by hand: an axis frame, and what stands in it. Colours are classes of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from .amounts import log_ticks, nice_ticks, short

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 38


@dataclass(frozen=True)
class Axis:
    """From numbers to places.

    Parameters
    ----------
    low, high
        The ends.
    label
        What it shows.
    log
        Whether equal ratios are equally far apart.
    """

    low: float
    high: float
    label: str
    log: bool = False

    def place(self, x: float) -> float:
        """Return where a number is, from 0 to 1 within the ends."""
        if self.log:
            x = math.log(max(x, self.low * 1e-9))
            low, high = math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return (x - low) / (high - low) if high > low else 0.5

    @property
    def ticks(self) -> list[float]:
        """Round numbers on it."""
        return log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high)


@dataclass
class Plot:
    """A picture with two axes.

    Parameters
    ----------
    x, y
        The axes.
    title, text
        What it is, and what it shows, for those who cannot see it.
    """

    x: Axis
    y: Axis
    title: str
    text: str
    width: int = WIDTH
    height: int = HEIGHT
    parts: list[str] = field(default_factory=list)

    def at_x(self, x: float) -> float:
        """Return the place of a number on the x axis."""
        return LEFT + self.x.place(x) * (self.width - LEFT - RIGHT)

    def at_y(self, y: float) -> float:
        """Return the place of a number on the y axis."""
        return self.height - BOTTOM - self.y.place(y) * (self.height - TOP - BOTTOM)

    def squares(self, boxes: Sequence[tuple[float, float, float, float]], kind: str, opacity: float) -> None:
        """Add rectangles, each from two numbers on each axis, as one shape."""
        path = []
        for x0, x1, y0, y1 in boxes:
            left, right, bottom, top = self.at_x(x0), self.at_x(x1), self.at_y(y0), self.at_y(y1)
            path.append(f"M{left:.1f},{bottom:.1f}H{right:.1f}V{top:.1f}H{left:.1f}z")
        self.parts.append(f'<path class="{kind}" d="{"".join(path)}" opacity="{opacity:.2g}"/>')

    def box(self, x0: float, x1: float, y0: float, y1: float, kind: str, opacity: float = 1.0) -> None:
        """Add a rectangle between two numbers on each axis."""
        left, right = sorted((self.at_x(x0), self.at_x(x1)))
        top, bottom = sorted((self.at_y(y0), self.at_y(y1)))
        shade = "" if opacity >= 1 else f' opacity="{opacity:.2g}"'
        self.parts.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0.4):.1f}" '
            f'height="{max(bottom - top, 0.4):.1f}"{shade}/>'
        )

    def steps(self, edges: Sequence[tuple[float, float]], heights: Sequence[float], kind: str) -> None:
        """Add a histogram as one outline, down to the axis at both ends and at gaps."""
        bottom = self.at_y(self.y.low)
        path: list[str] = []
        before: float | None = None
        for (low, high), height in zip(edges, heights, strict=True):
            left, right, top = self.at_x(low), self.at_x(high), self.at_y(height)
            if before is None or abs(before - left) > 0.2:
                path.append("" if before is None else f"V{bottom:.1f}")
                path.append(f"M{left:.1f},{bottom:.1f}")
            path.append(f"V{top:.1f}H{right:.1f}")
            before = right
        if before is not None:
            self.parts.append(f'<path class="{kind}" d="{"".join(path)}V{bottom:.1f}"/>')

    def line(self, points: Sequence[tuple[float, float]], kind: str, dots: bool = False) -> None:
        """Add a line through points, and a dot at each if asked."""
        at = [(self.at_x(x), self.at_y(y)) for x, y in points]
        self.parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>')
        if dots:
            self.parts += [f'<circle class="{kind}-dot" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in at]

    def upright(self, x: float, kind: str, label: str = "", left: bool = False) -> None:
        """Add a vertical line at a number, with a label at its top, to its left if it should and can."""
        at = self.at_x(x)
        if not LEFT - 1 <= at <= self.width - RIGHT + 1:
            return
        self.parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{self.height - BOTTOM}"/>')
        if label:
            end = self.turns(x) or (left and at > LEFT + 45)
            place = f'x="{at - 4:.1f}" text-anchor="end"' if end else f'x="{at + 4:.1f}"'
            self.parts.append(f'<text class="{kind}-text" {place} y="{TOP + 9}">{escape(label)}</text>')

    def turns(self, x: float) -> bool:
        """Whether a label at a number stands to its left, since there is no room to its right."""
        return self.at_x(x) > self.width - RIGHT - 60

    def level(self, y: float, kind: str, label: str) -> None:
        """Add a horizontal line at a number, with a label on it."""
        at = self.at_y(y)
        self.parts.append(
            f'<line class="{kind}" x1="{LEFT}" x2="{self.width - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="{kind}-text" x="{LEFT + 4}" y="{at - 4:.1f}">{escape(label)}</text>'
        )

    def __str__(self) -> str:
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        frame = [f'<path class="axis" d="M{LEFT},{TOP}V{bottom}H{right}"/>']
        for x in self.x.ticks:
            at = self.at_x(x)
            frame.append(f'<path class="axis" d="M{at:.1f},{bottom}v4"/>')
            anchor = "end" if at > right - 8 else "middle"
            frame.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 15}" text-anchor="{anchor}">{short(x)}</text>')
        for y in self.y.ticks:
            at = self.at_y(y)
            frame.append(f'<path class="rule" d="M{LEFT},{at:.1f}H{right}"/>')
            frame.append(f'<text class="tick" x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{short(y)}</text>')
        middle = TOP + (bottom - TOP) / 2
        frame.append(
            f'<text class="label" x="{LEFT + (right - LEFT) / 2:.0f}" y="{self.height - 5}" '
            f'text-anchor="middle">{escape(self.x.label)}</text>'
            f'<text class="label" transform="translate(11 {middle:.0f}) rotate(-90)" '
            f'text-anchor="middle">{escape(self.y.label)}</text>'
        )
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title)}. '
            f'{escape(self.text)}">{"".join([*frame, *self.parts])}</svg>'
        )

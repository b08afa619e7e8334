"""`picture`: throughput against latency of each system of a race, as an SVG that reads on light and dark pages."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 860, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 50, 60
# Distinct in hue and in lightness, on white and on near-black (Okabe and Ito's, without black and yellow).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a8a8a", "#7a5cff")
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 } .small { font-size: 11px; fill: #59636e }
  .title { font-size: 16px; font-weight: 600 } .grid { stroke: #d1d9e0; stroke-width: 1 } .back { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 } .grid { stroke: #3d444d } .back { fill: #0d1117 }
  }
"""


def run(options: argparse.Namespace) -> None:
    """`picture`."""
    races = [json.loads(path.read_text()) for path in options.race]
    options.out.write_text(draw(joined([race["systems"] for race in races]), races[0]["what"]))
    print(f"{options.out} drawn from {', '.join(map(str, options.race))}")


def joined(races: Sequence[Mapping[str, list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """The points of each system in races over different concurrencies."""
    systems: dict[str, list[dict[str, Any]]] = {}
    for race in races:
        for name, points in race.items():
            systems.setdefault(name, []).extend(points)
    return systems


def draw(systems: dict[str, list[dict[str, Any]]], what: str) -> str:
    """The SVG. `systems`: by name its points, each with `rate` (requests per second), `p99_ms` and `c`."""
    points = [p for found in systems.values() for p in found]
    x = _Axis([p["rate"] for p in points], _LEFT, _WIDTH - _RIGHT)
    y = _Axis([p["p99_ms"] for p in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(what)}: latency against throughput</title><style>{_STYLE}</style>",
        f'<rect class="back" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="26">{escape(what)}</text>',
        *_grid(x, y),
    ]
    # The fastest first, so that the legend reads as the picture does.
    order = sorted(systems, key=lambda name: -max(p["rate"] for p in systems[name]))
    for i, name in enumerate(order):
        parts += _line(name, systems[name], x, y, _COLOURS[i % len(_COLOURS)], i)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """Logarithmic from the decade's third below the least value to that above the greatest."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log10(min(values) * 0.8), math.log10(max(values) * 1.25)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        part = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        """1, 2 and 5 of each decade in range."""
        found = [m * 10.0**d for d in range(-3, 7) for m in (1, 2, 5)]
        return [t for t in found if self._low <= math.log10(t) <= self._high]


def _grid(x: _Axis, y: _Axis) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in x.ticks():
        at = f"{x.at(tick):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text class="small" x="{at}" y="{bottom + 18}" text-anchor="middle">{tick:,.0f}</text>'
        )
    for tick in y.ticks():
        at = f"{y.at(tick):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="small" x="{_LEFT - 8}" y="{at}" dy="4" text-anchor="end">{tick:g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="small" x="{middle:.0f}" y="{_HEIGHT - 16}" text-anchor="middle">requests per second, '
        "closed loop (log); more is better; the number at a point is how many callers there were</text>"
    )
    parts.append(
        f'<text class="small" x="18" y="{(_TOP + bottom) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 18 {(_TOP + bottom) / 2:.0f})">p99 latency, ms (log); less is better</text>'
    )
    return parts


def _line(name: str, points: list[dict[str, Any]], x: _Axis, y: _Axis, colour: str, place: int) -> list[str]:
    placed = [(x.at(p["rate"]), y.at(p["p99_ms"]), p["c"]) for p in sorted(points, key=lambda p: p["c"])]
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in placed)
    # Ours are drawn thick.
    width = 3.5 if name.startswith("headrace") else 2
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>']
    for px, py, c in placed:
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"/>')
        parts.append(f'<text class="small" x="{px + 6:.1f}" y="{py - 6:.1f}">{c}</text>')
    top, left = _TOP + 12 + 22 * place, _WIDTH - _RIGHT + 16
    parts.append(f'<rect x="{left}" y="{top - 9}" width="18" height="4" fill="{colour}"/>')
    parts.append(f'<text x="{left + 26}" y="{top}">{escape(name)}</text>')
    return parts

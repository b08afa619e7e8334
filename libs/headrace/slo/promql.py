"""Text of PromQL: durations, and dividing all durations of an expression."""

from __future__ import annotations

import re

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_RANGE = re.compile(r"(\[|offset )(\d+(?:w|d|h|m|s))\b")


def duration(seconds: float) -> str:
    """A duration in the largest unit that divides it, such as "90s" or "1d"."""
    ms = max(round(seconds * 1000), 1)
    unit = next(unit for unit, size in _UNITS.items() if ms % size == 0)
    return f"{ms // _UNITS[unit]}{unit}"


def seconds(text: str) -> float:
    """Of a duration in one unit, such as "90s"."""
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * _UNITS[unit] / 1000


def paced(expression: str, pace: float, floor_s: float) -> str:
    """The expression with its ranges and offsets divided by `pace`. No range becomes shorter than `floor_s`: it would hold fewer
    than two samples, and never give a value. At a pace of 1 nothing changes."""
    if pace == 1:
        return expression

    def divided(found: re.Match[str]) -> str:
        least = floor_s if found[1] == "[" else 1.0
        return found[1] + duration(round(max(seconds(found[2]) / pace, least)))

    return _RANGE.sub(divided, expression)


def label(value: str) -> str:
    """A label's value as a PromQL string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

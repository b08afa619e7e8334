"""Explanations as tables for a person, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.cli.tables import headed_table

_WIDTH = 24
_BLOCK, _HALF = "█", "▌"
_LONGEST = 28


@dataclass(frozen=True, slots=True)
class Column:
    """What one column added. `value`, `base`: JSON; "": not shown, or not known."""

    column: str
    value: str
    contribution: float
    standard_error: float
    base_source: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """An explanation, the largest contributions first. `prediction_id` "": of inputs that were given."""

    pipeline: str
    output: str
    base: float
    value: float
    exact: bool
    columns: Sequence[Column]
    prediction_id: str


def draw(shown: Shown) -> RenderableType:
    """Bars to the right raise the output, bars to the left lower it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("column", "value", "base"):
        table.add_column(name, overflow="ellipsis", max_width=_LONGEST, no_wrap=True)
    table.add_column("added", justify="right")
    if not shown.exact:
        table.add_column("± s.e.", justify="right")
    table.add_column("")
    largest = max((abs(c.contribution) for c in shown.columns), default=0.0)
    for column in shown.columns:
        base = column.base or column.base_source
        figures = [f"{column.contribution:+.4g}"]
        if not shown.exact:
            figures.append(f"{column.standard_error:.1g}")
        texts = (column.column, _short(column.value) or "(personal)", _short(base), *figures)
        table.add_row(*map(Text, texts), bar(column.contribution, largest))
    return Group(Text(_head(shown)), Text(), table)


def bar(value: float, largest: float) -> Text:
    """A bar from the middle: green to the right, red to the left."""
    halves = round(abs(value) / largest * _WIDTH) if largest else 0
    drawn = _BLOCK * (halves // 2) + _HALF * (halves % 2)
    middle = _WIDTH // 2
    if value < 0:
        # The half block is the left half of a cell, so to the left whole cells alone.
        return Text((_BLOCK * ((halves + 1) // 2)).rjust(middle) + "│" + " " * middle, style="red")
    return Text(" " * middle + "│" + drawn.ljust(middle), style="green")


def coverage(pipelines: Iterable[Any]) -> Table:
    """Which share is explained."""
    table = headed_table("pipeline", "must be explained", "explained", "coverage", numbers=True)
    for each in pipelines:
        share = each.explained_count / each.prediction_count if each.prediction_count else 1.0
        table.add_row(each.pipeline, str(each.prediction_count), str(each.explained_count), f"{share:.2%}")
    return table


def slices(reply: Any, column: str) -> RenderableType:
    """What the groups of a column got."""
    figures = ("predictions", reply.output, "95 %", "wrong", "95 %", f"added by {column}", "95 %")
    table = headed_table(column, *figures, numbers=True)
    for each in reply.slices:
        group = each.group if each.group_count == 1 else f"({each.group_count} small groups)"
        means = [text for found in (each.output, each.wrong, each.contribution) for text in _mean(found)]
        table.add_row(Text(group), str(each.output.prediction_count), *means)
    told = f"{reply.prediction_count} predictions"
    return Group(Text(f"{told}, the newest" if reply.truncated else told), Text(), table)


def _short(value: str) -> str:
    """A value of JSON with six digits, if it is a number with more."""
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value.strip('"')


def _mean(found: Any) -> tuple[str, str]:
    if not found.HasField("mean"):
        return "", ""
    return f"{found.mean:.4g}", f"{found.low:.4g} to {found.high:.4g}"


def _head(shown: Shown) -> str:
    whose = f"prediction {shown.prediction_id}" if shown.prediction_id else "these inputs"
    how = "exact" if shown.exact else "estimated"
    return (
        f"{shown.pipeline}, {whose}: {shown.output} = {shown.value:.6g},"
        f" that is {shown.value - shown.base:+.4g} from the base row's {shown.base:.6g} ({how})"
    )

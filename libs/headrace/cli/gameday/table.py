"""Expectations and figures as a table in Markdown."""

from __future__ import annotations

from headrace.cli.gameday.expectation import Expectation
from headrace.cli.gameday.figures import Figures

HEAD = (
    "| fault | what is done | alert that came | after s | requests | failed, by code | rows with fallbacks | slowest s "
    "| mended by | well again after s | as expected |\n|---|---|---|--:|--:|---|--:|--:|---|--:|---|\n"
)


def row(expected: Expectation, figures: Figures, pace: str) -> str:
    """One line. `pace`: how the alert's times were, such as "real"."""
    failed = ", ".join(f"{code} {count}" for code, count in figures.failed.items()) or "none"
    broken = expected.broken(figures)
    cells = (
        expected.name,
        expected.what,
        _alert(expected, figures, pace),
        _seconds(figures.detected_s, 0),
        str(figures.sent),
        failed,
        str(figures.with_fallbacks),
        _seconds(figures.slowest_s, 1),
        expected.mended,
        _seconds(figures.recovered_s, 1),
        f"no: {'; '.join(broken)}" if broken else "yes",
    )
    return f"| {' | '.join(cells)} |\n"


def _alert(expected: Expectation, figures: Figures, pace: str) -> str:
    if not expected.alert:
        return "none"
    if figures.detected_s is None:
        return f"none; `{expected.alert}` was expected"
    return f"`{expected.alert}` ({pace})"


def _seconds(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"

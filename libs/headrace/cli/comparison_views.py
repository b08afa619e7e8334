"""How two versions answered the same rows, as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from headrace.analysis import wilson
from headrace.cli.tables import headed_table
from headrace.columns import DType
from headrace.comparison import ComparisonReport, OutputComparison

# Below this, the two kinds of discordant pairs are hardly equally likely.
_SIGNIFICANT = 0.01


def outputs(found: ComparisonReport) -> Table:
    """How often each output was the same, and how far apart it was."""
    table = headed_table(
        "output", "the same", "95 % interval", "|Δ| p50", "p90", "p99", "max", "discordant", numbers=True
    )
    for name, output in sorted(found.outputs.items()):
        low, high = wilson(output.equal, output.rows)
        share = f"{output.equal / output.rows:.2%}" if output.rows else ""
        table.add_row(name, share, f"{low:.2%} to {high:.2%}", *_deltas(output), _discordant(output))
    return table


def _deltas(output: OutputComparison) -> Iterator[str]:
    if not output.dtype.is_float:
        return iter([""] * 4)
    deltas = output.deltas
    most = float("inf") if deltas.infinite else deltas.max
    return iter([*(f"{deltas.quantile(q):.3g}" for q in (0.5, 0.9, 0.99)), f"{most:.3g}"])


def _discordant(output: OutputComparison) -> Text:
    if output.dtype is not DType.BOOL or not output.rows:
        return Text("")
    p = _equally_likely(output.live_true, output.shadow_true)
    told = f"{output.live_true} only live true, {output.shadow_true} only shadow (p {p:.2g})"
    return Text(told, style="yellow" if p < _SIGNIFICANT else "")


def _equally_likely(first: int, second: int) -> float:
    """Two-sided p-value that both kinds of discordant pairs are equally likely (McNemar 1947, exact)."""
    from scipy.stats import binomtest  # here, as its import takes half a second

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def worst(found: ComparisonReport, rows: int, first: str, second: str) -> Table:
    """The rows that differ most. `first`, `second`: heads of the two answers."""
    table = headed_table("request", "row", "output", first, second)
    table.title, table.title_justify = "the worst rows", "left"
    for row in found.worst.sorted()[:rows]:
        for output, one, other in row.differences():
            table.add_row(*map(Text, (row.request_id, str(row.row), output, one, other)))
    return table

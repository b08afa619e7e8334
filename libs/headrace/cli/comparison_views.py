"""How two versions answered the same rows, as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from headrace.analysis import wilson
from headrace.api.monitoring.v1 import shadow_pb2 as pb
from headrace.cli.tables import headed_table
from headrace.columns.column import BY_NUMBER, DType

# Below this, the two kinds of discordant pairs are hardly equally likely.
_SIGNIFICANT = 0.01


def outputs(found: pb.ShadowReport) -> Table:
    """How often each output was the same, and how far apart it was."""
    table = headed_table(
        "output", "the same", "95 % interval", "|Δ| p50", "p90", "p99", "max", "discordant", numbers=True
    )
    for output in sorted(found.outputs, key=lambda output: output.name):
        low, high = wilson(output.equal_count, output.row_count)
        share = f"{output.equal_count / output.row_count:.2%}" if output.row_count else ""
        table.add_row(output.name, share, f"{low:.2%} to {high:.2%}", *_deltas(output), _discordant(output))
    return table


def _deltas(output: pb.OutputComparison) -> Iterator[str]:
    if not output.deltas.value_count:
        return iter([""] * 4)
    found = output.deltas
    return (f"{value:.3g}" for value in (found.p50, found.p90, found.p99, found.max))


def _discordant(output: pb.OutputComparison) -> Text:
    if BY_NUMBER.get(output.data_type) is not DType.BOOL or not output.row_count:
        return Text("")
    p = _equally_likely(output.live_true_count, output.shadow_true_count)
    told = f"{output.live_true_count} only live true, {output.shadow_true_count} only shadow (p {p:.2g})"
    return Text(told, style="yellow" if p < _SIGNIFICANT else "")


def _equally_likely(first: int, second: int) -> float:
    """Two-sided p-value that both kinds of discordant pairs are equally likely (McNemar 1947, exact)."""
    from scipy.stats import binomtest  # here, as its import takes half a second

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def worst(found: pb.ShadowReport, rows: int, first: str, second: str) -> Table:
    """The rows that differ most. `first`, `second`: heads of the two answers."""
    table = headed_table("prediction", "output", first, second)
    table.title, table.title_justify = "the worst rows", "left"
    for row in found.worst[:rows]:
        for output, one, other in differences(row):
            table.add_row(*map(Text, (row.prediction_id, output, one, other)))
    return table


def differences(row: pb.DifferentRow) -> Sequence[tuple[str, str, str]]:
    """Output and both values; of a row that the second failed, its error in their place."""
    return [(v.output, v.live, v.shadow) for v in row.values] or [("(error)", "answered", row.shadow_error)]

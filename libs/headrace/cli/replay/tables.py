"""What a replay found, as tables for a person."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.cli.replay.candidate import Candidate
from headrace.cli.replay.verdict import Verdict
from headrace.cli.tables import headed_table, titled_rows


def draw(chosen: Candidate, verdict: Verdict) -> RenderableType:
    """The verdict as tables: what was run, what differs in each output, the differences by name."""
    head = titled_rows()
    head.add_row("candidate", f"{chosen.pipeline.name}, {chosen.name}, version {chosen.pipeline.version}")
    for model in sorted({*verdict.old_models, *verdict.new_models}):
        old, new = (
            ", ".join(sorted(m.get(model, ()))) or "none" for m in (verdict.old_models, verdict.new_models)
        )
        head.add_row(f"model {model}", old if old == new else f"{old} → {new}")
    head.add_row("requests", f"{verdict.requests} in {verdict.batches} batches, {verdict.rows} rows")
    exact = _tolerance(verdict)
    if not verdict.different_rows:
        head.add_row("verdict", Text(f"all answers are {exact}", style="bold green"))
        return head
    share = verdict.different_rows / verdict.rows
    told = f"{verdict.different_rows} rows ({share:.2%}) are not {exact}"
    head.add_row("verdict", Text(told, style="bold red"))
    return Group(head, Text(), _outputs(verdict), Text(), _named(verdict))


def _tolerance(verdict: Verdict) -> str:
    if verdict.relative:
        return f"within {verdict.tolerance:g} + {verdict.relative:g} of the value"
    return f"within {verdict.tolerance:g}" if verdict.tolerance else "the same bit for bit"


def _outputs(verdict: Verdict) -> Table:
    table = headed_table("output", "rows", "differ", "p50 |Δ|", "p99 |Δ|", "max |Δ|", numbers=True)
    for name, tally in sorted(verdict.outputs.items()):
        deltas = ["", "", ""]
        if tally.deltas.count:
            high = float("inf") if tally.deltas.infinite else tally.deltas.max
            deltas = [f"{v:.3g}" for v in (tally.deltas.quantile(0.5), tally.deltas.quantile(0.99), high)]
        style = "red" if tally.different else ""
        table.add_row(Text(name, style=style), str(tally.rows), str(tally.different), *deltas)
    if verdict.errors_changed:
        table.add_row(Text("(errors)", style="red"), str(verdict.rows), str(verdict.errors_changed))
    return table


def _named(verdict: Verdict) -> Table:
    table = headed_table("request", "row", "output", "recorded", "candidate")
    if verdict.named:
        table.title, table.title_justify = f"the first {len(verdict.named)} differences", "left"
    for found in verdict.named:
        table.add_row(*(Text(str(value)) for value in found))
    return table

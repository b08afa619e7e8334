"""`headrace replay`: recorded requests against a candidate, before it takes traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from headrace.cli.console import DEFAULT_HOME, Home, err, fail, out, place
from headrace.cli.installation.layout import Layout
from headrace.cli.replay.candidate import Candidate, Choice, ReplayError, candidate
from headrace.cli.replay.verdict import Verdict
from headrace.hop.config import ConfigError
from headrace.recordings import RecordingError, read_frames, read_records
from headrace.recordings.writer import SUFFIX

Files = Annotated[list[Path], typer.Argument(help="Recording files, or folders of them.")]
PipelineName = Annotated[str, typer.Option("--pipeline", "-p", help="Its name.")]


def replay(
    recordings: Files,
    pipeline: PipelineName,
    home: Home = DEFAULT_HOME,
    release: Annotated[
        int | None, typer.Option("--release", min=1, help="Number of the release; the current one if absent.")
    ] = None,
    arm: Annotated[str, typer.Option("--arm", help="Arm of the release.")] = "live",
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models", metavar="NAME=VERSION", help="Another version or label of a model; repeatable."
        ),
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option("--document", help="A pipeline document in place of the arm's.", dir_okay=False),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Of numbers; 0: the same bit for bit.")
    ] = 0.0,
    show: Annotated[int, typer.Option("--show", min=0, help="How many differences to name.")] = 20,
) -> None:
    """Run recorded requests, with the feature values that were read then, against a candidate, and name what it answers
    differently. Nothing that serves is touched. Exit code 1 if anything differs."""
    layout, paths = place(home), _files(recordings)
    try:
        chosen = candidate(layout, Choice(pipeline, release, arm, versions(models or []), document))
        verdict = Verdict(tolerance, show)
        _run(layout, chosen, paths, verdict)
    except (ReplayError, RecordingError, ConfigError) as error:
        fail(str(error))
    if not verdict.rows:
        fail(f"there is no request of pipeline {pipeline} in these files")
    out.print(draw(chosen, verdict))
    if verdict.different_rows:
        raise typer.Exit(1)


def _files(paths: Sequence[Path]) -> list[Path]:
    found = [f for p in paths for f in (sorted(p.glob(f"*{SUFFIX}")) if p.is_dir() else [p])]
    if not found:
        fail(f"no file *{SUFFIX} is in {', '.join(map(str, paths))}")
    return found


def versions(texts: Sequence[str]) -> dict[str, str]:
    """Model → version or label, of options NAME=VERSION."""
    found = {}
    for text in texts:
        name, equals, version = text.partition("=")
        if not (name and equals and version):
            fail(f"{text}: write NAME=VERSION, for example flights_light=2")
        found[name] = version
    return found


def _run(layout: Layout, chosen: Candidate, paths: Sequence[Path], verdict: Verdict) -> None:
    # Not with the command's other imports: the services take seconds.
    from headrace.cli.replay.run import replay as run

    total = sum(1 for path in paths for _ in read_frames(path))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        asyncio.run(run(layout, chosen, read_records(paths), verdict, lambda: progress.advance(task)))


def draw(chosen: Candidate, verdict: Verdict) -> RenderableType:
    """The verdict as tables: what was run, what differs in each output, the differences by name."""
    head = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
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
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("output", "rows", "differ", "p50 |Δ|", "p99 |Δ|", "max |Δ|"):
        table.add_column(name, justify="left" if name == "output" else "right")
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
    title = f"the first {len(verdict.named)} differences" if verdict.named else None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title=title, title_justify="left")
    for name in ("request", "row", "output", "recorded", "candidate"):
        table.add_column(name, overflow="fold")
    for found in verdict.named:
        table.add_row(*(Text(str(value)) for value in found))
    return table

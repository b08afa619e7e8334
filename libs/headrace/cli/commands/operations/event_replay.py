"""`headrace events replay`: stored events run again, on what made them or on a candidate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.operations.event_calls import ask, named, tell_unreadable
from headrace.cli.comparison_views import outputs, worst
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, pairs, place, seconds
from headrace.cli.installation.layout import Layout
from headrace.cli.replay.candidate import ReplayError
from headrace.cli.replay.event_run import Compared, EventReport, run_events
from headrace.cli.replay.stored_events import Replayable
from headrace.cli.tables import titled_rows
from headrace.events import EventGroup, messages
from headrace.hop.config import ConfigError

# Of one page; also the most that are run as one batch.
_PAGE = 500


def replay(
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="Only events of this pipeline.")] = "",
    since: Annotated[str, typer.Option("--since", help="Not older than a duration such as 2h.")] = "",
    identity: Annotated[
        str, typer.Option("--id", help="One prediction (REQUEST_ID/ROW), request or event.")
    ] = "",
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            metavar="MODEL=VERSION",
            help="Another version or label of a model; repeatable.",
        ),
    ] = None,
    release: Annotated[
        int | None,
        typer.Option(
            "--release", min=1, help="The live arm of this release; what made each event if absent."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0.0,
            help="Of numbers; 0: the same bit for bit. If absent, what the metadata of the models state (`parity`).",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The most events, the newest first.")] = 1000,
    show: Annotated[
        int, typer.Option("--show", min=0, max=20, help="How many of the worst rows to show.")
    ] = 20,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Run stored events again, with their inputs and the feature values that they got then, and compare the answers.

    Nothing that serves is touched, and no event comes of it. Exit code 1 if answers differ, or none could be run."""
    layout = place(home)
    chosen = _chosen(pipeline, since)
    try:
        found = Replayable(layout, pairs(candidate or [], "--candidate"), release)
        found.add(_stored(layout, chosen, identity, limit))
        report = _run(layout, found, tolerance)
    except (ReplayError, ConfigError, messages.UnreadableError) as error:
        fail(str(error))
    if not report.events:
        fail("there are no such events; see: headrace events list")
    if as_json:
        print(json.dumps(report.values(), indent=2))
    else:
        out.print(drawn(report, show))
    if report.differing or not report.replayed:
        raise typer.Exit(1)


def _chosen(pipeline: str, since: str) -> pb.ListEventsRequest:
    chosen = pb.ListEventsRequest(pipeline=pipeline)
    if since:
        begin = datetime.now(UTC) - timedelta(seconds=seconds(since, "--since"))
        chosen.begin_time.FromDatetime(begin)
    return chosen


def _stored(layout: Layout, chosen: pb.ListEventsRequest, identity: str, limit: int) -> Iterator[EventGroup]:
    """The events, page by page."""
    for wanted in named(identity) if identity else [pb.ListEventsRequest()]:
        wanted.MergeFrom(chosen)
        found = 0
        for group in _pages(layout, wanted, limit):
            found += len(group)
            yield group
        if found:
            return


def _pages(layout: Layout, wanted: pb.ListEventsRequest, limit: int) -> Iterator[EventGroup]:
    page = ""
    while limit:
        wanted.limit = min(limit, _PAGE)
        reply = ask(
            layout, "ReadEvents", pb.ReadEventsRequest(chosen=wanted, page=page), pb.ReadEventsResponse
        )
        tell_unreadable(reply.unreadable_segments)
        for i, message in enumerate(reply.groups):
            group = messages.read_group(f"groups[{i}]", message)
            limit -= len(group)
            yield group
        page = reply.next_page
        if not page:
            return


def _run(layout: Layout, found: Replayable, tolerance: float | None) -> EventReport:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        total = sum(len(records) for _, records in found.records.values())
        task = progress.add_task("replaying", total=total)
        return run_events(layout, found, tolerance, lambda: progress.advance(task))


def drawn(report: EventReport, rows: int) -> RenderableType:
    """The report as tables: the counts, why events could not be run, then each basis. `rows`: how many of the worst are shown."""
    head = titled_rows()
    head.add_row("events", str(report.events))
    head.add_row("equal", Text(str(report.equal), style="green" if report.equal else ""))
    head.add_row("differing", Text(str(report.differing), style="bold red" if report.differing else ""))
    left_out = sum(report.left_out.values())
    head.add_row(
        "coverage", Text(f"{report.coverage:.2%} could be replayed", style="yellow" if left_out else "")
    )
    head.add_row("not replayable", str(left_out))
    for why, count in sorted(report.left_out.items(), key=lambda item: -item[1]):
        head.add_row("", f"{count}: {why}")
    parts: list[RenderableType] = [head]
    for compared in report.compared:
        basis = compared.basis
        made = f"made by {basis.pipeline}, release {basis.release}, arm {basis.arm}"
        parts += [
            Text(),
            Text(made, style="bold"),
            _verdict(compared),
            Text(),
            outputs(compared.report.message()),
        ]
        if rows and compared.differing:
            parts += [Text(), worst(compared.report.message(), rows, "recorded", "candidate")]
    return Group(*parts)


def _verdict(compared: Compared) -> Table:
    candidate, report, then, now = compared.candidate, compared.report, compared.then, compared.now
    found = titled_rows()
    found.add_row(
        "candidate", f"{candidate.pipeline.name}, {candidate.name}, version {candidate.pipeline.version}"
    )
    for model in sorted({*then, *now}):
        old, new = (", ".join(sorted(m.get(model, ()))) or "none" for m in (then, now))
        found.add_row(f"model {model}", old if old == new else f"{old} → {new}")
    exact = f"within {report.tolerance:g}" if report.tolerance else "the same bit for bit"
    if report.relative:
        exact = f"within {report.tolerance:g} + {report.relative:g} of the value"
    if not compared.differing:
        found.add_row("verdict", Text(f"all answers are {exact}", style="bold green"))
        return found
    told = f"{compared.differing} of {report.rows} are not {exact}"
    if failed := report.message().shadow_failed_count:
        told += f"; {failed} of them fail"
    found.add_row("verdict", Text(told, style="bold red"))
    return found

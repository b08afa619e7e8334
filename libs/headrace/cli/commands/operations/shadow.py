"""`headrace shadow`: another version beside the live one, without effect, and how its answers compare with what callers got."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.api.monitoring.v1 import shadow_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.cli.commands.operations import door_calls
from headrace.cli.commands.operations.event_calls import tell_unreadable
from headrace.cli.commands.releases.changes import Document, Label, Models, Set, built
from headrace.cli.commands.releases.commit import commit
from headrace.cli.commands.releases.place import Number, PipelineName, Reason, opened
from headrace.cli.comparison_views import outputs, worst
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, fail, out, place, seconds
from headrace.cli.tables import titled_rows
from headrace.releases.changes import shadow_started, shadow_stopped
from headrace.releases.changes.shadows import SHADOW

shadow = typer.Typer(help="Arms that run beside the live one, without effect.", no_args_is_help=True)
_PATH = "/headrace.api.operations.v1.OperationsService/GetShadowReport"
_MS, _US = 1e3, 1e6


@shadow.command()
def start(
    pipeline: PipelineName,
    share: Annotated[
        float, typer.Option("--share", min=0.0, max=100.0, help="Of the requests, in percent.")
    ] = 100.0,
    models: Models = None,
    label: Label = "",
    settings: Set = None,
    document: Document = None,
    arm: Annotated[str, typer.Option("--arm", help="Name of the arm.")] = SHADOW,
    reason: Reason = "",
    number: Number = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Run a copy of the requests on another version, after they were answered; its answers have no effect."""
    with opened(home) as at:
        basis = at.basis(pipeline, reason, number)
        documents = at.documents(pipeline)
        made = built(at, basis, documents, arm, models, label, settings, document)
        release = shadow_started(basis, made, arm, share / 100)
        steps = [f"shadow report {pipeline}", f"shadow stop {pipeline}"]
        commit(at, basis, release, documents, next_steps=steps)


@shadow.command()
def stop(pipeline: PipelineName, reason: Reason = "", home: Home = DEFAULT_HOME) -> None:
    """End the shadow. Its report stays as long as its events."""
    with opened(home) as at:
        basis = at.basis(pipeline, reason)
        commit(at, basis, shadow_stopped(basis), at.documents(pipeline))


@shadow.command()
def report(
    pipeline: Annotated[str, typer.Argument(help="Its name.")],
    home: Home = DEFAULT_HOME,
    since: Annotated[str, typer.Option("--since", help="Not older than a duration such as 2h.")] = "7d",
    rows: Annotated[
        int, typer.Option("--rows", min=0, max=20, help="How many of the worst rows to show.")
    ] = 5,
    as_json: AsJson = False,
    key: door_calls.OperatorKey = None,
) -> None:
    """Compare, row by row, what a pipeline's shadow answered with what callers got, as stored events say."""
    request = pb.GetShadowReportRequest(pipeline=pipeline)
    request.begin_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=seconds(since, "--since")))
    door = door_calls.local(place(home), key)
    found = door_calls.ask(door, _PATH, request, pb.GetShadowReportResponse).shadow
    if as_json:
        print(json.dumps(MessageToDict(found, preserving_proto_field_name=True), indent=2))
        return
    tell_unreadable(found.unreadable_files)
    if not found.reports:
        start_one = f"start one: headrace shadow start {pipeline}"
        fail(f"no event says that a shadow of {pipeline} ran in the last {since}; {start_one}")
    for one in found.reports:
        out.print(draw(one, rows))
        out.print()


def draw(found: shadow_pb2.ShadowReport, rows: int) -> RenderableType:
    """A report as tables for a person, and what to do next."""
    parts: list[RenderableType] = [_head(found), Text(), outputs(found)]
    if rows and found.worst:
        parts += [Text(), worst(found, rows, "live", "shadow")]
    return Group(*parts, Text(), _next(found))


def _head(found: shadow_pb2.ShadowReport) -> Table:
    table = titled_rows()
    table.add_row(
        "shadow", f"{found.pipeline}, arm {found.arm} of release {found.release}, beside {found.against}"
    )
    table.add_row("since", f"{found.begin_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC")
    both, alone, other = found.both_answered_count, found.shadow_failed_count, found.live_failed_count
    rows = both + alone + other + found.both_failed_count
    table.add_row("rows", f"{rows}, {both} of them answered by both")
    style = "red" if alone > other else ""
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(found.shadow_errors.items()))
    told = f"{alone} by the shadow alone, {other} by {found.against} alone, {found.both_failed_count} by both"
    table.add_row("failed", Text(f"{told} ({reasons})" if reasons else told, style=style))
    live, shadowed = found.live_seconds, found.shadow_seconds
    if timed := live.value_count:
        table.add_row(
            "time", "   ".join((_times(50, live.p50, shadowed.p50), _times(99, live.p99, shadowed.p99)))
        )
        busy = found.live_busy_seconds / timed * _US, found.shadow_busy_seconds / timed * _US
        table.add_row("work", f"{busy[0]:.3g} → {busy[1]:.3g} µs a row ({_ratio(*busy)})")
    return table


def _times(percent: int, live: float, shadowed: float) -> str:
    return f"p{percent} {live * _MS:.3g} → {shadowed * _MS:.3g} ms ({_ratio(live, shadowed)})"


def _ratio(live: float, shadowed: float) -> str:
    return f"× {shadowed / live:.2f}" if live > 0 else "no ratio"


def _next(found: shadow_pb2.ShadowReport) -> Text:
    """What a person may do with it."""
    if found.worst:
        told = f"To run a row again: headrace events replay --id {found.worst[0].prediction_id}"
    else:
        told = f"All answers are the same; give it traffic: headrace rollout start {found.pipeline}"
    return Text(told, style="dim")

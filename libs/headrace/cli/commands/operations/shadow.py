"""`headrace shadow`: another version beside the live one, without effect, and how its answers compare with what callers got."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.cli.commands.operations import door_calls
from headrace.cli.commands.releases.changes import Document, Label, Models, Set, built
from headrace.cli.commands.releases.commit import commit
from headrace.cli.commands.releases.place import Number, PipelineName, Reason, opened
from headrace.cli.comparison_views import outputs, worst
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, place
from headrace.cli.tables import titled_rows
from headrace.comparison import ComparisonReport, QuantileSketch
from headrace.comparison.messages import read_report
from headrace.releases.changes import shadow_started, shadow_stopped
from headrace.releases.changes.shadows import SHADOW

shadow = typer.Typer(help="Arms that run beside the live one, without effect.", no_args_is_help=True)
_PATH = "/headrace.api.operations.v1.OperationsService/GetShadowReport"
_MS = 1e3


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
    """End the shadow. Its report stays until the routers start anew."""
    with opened(home) as at:
        basis = at.basis(pipeline, reason)
        commit(at, basis, shadow_stopped(basis), at.documents(pipeline))


@shadow.command()
def report(
    pipeline: Annotated[str, typer.Argument(help="Its name.")],
    home: Home = DEFAULT_HOME,
    rows: Annotated[
        int, typer.Option("--rows", min=0, max=20, help="How many of the worst rows to show.")
    ] = 5,
    as_json: AsJson = False,
    key: door_calls.OperatorKey = None,
) -> None:
    """Compare, row by row, what a pipeline's shadow answered with what callers got."""
    layout = place(home)
    request = pb.GetShadowReportRequest(pipeline=pipeline)
    reply = door_calls.ask(layout, _PATH, request, pb.GetShadowReportResponse, key)
    if as_json:
        print(json.dumps(MessageToDict(reply, preserving_proto_field_name=True), indent=2))
        return
    if not reply.reports:
        start_one = f"start one: headrace shadow start {pipeline}"
        fail(f"no shadow of {pipeline} has run since its routers started; {start_one}")
    for message in reply.reports:
        out.print(draw(read_report(message), rows))
        out.print()
    if reply.silent_router_count:
        answered = reply.router_count
        err.print(f"{reply.silent_router_count} routers did not answer, {answered} did", style="yellow")


def draw(found: ComparisonReport, rows: int) -> RenderableType:
    """A report as tables for a person, and what to do next."""
    parts: list[RenderableType] = [_head(found), Text(), outputs(found)]
    if rows and found.worst.sorted():
        parts += [Text(), worst(found, rows, "live", "shadow")]
    return Group(*parts, Text(), _next(found))


def _head(found: ComparisonReport) -> Table:
    table = titled_rows()
    table.add_row(
        "shadow", f"{found.pipeline}, arm {found.arm} of release {found.release}, beside {found.against}"
    )
    table.add_row("since", f"{found.began:%Y-%m-%d %H:%M:%S} UTC")
    table.add_row("rows", f"{found.rows}, {found.both_answered} of them answered by both")
    dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(found.dropped.items()))
    table.add_row("dropped", Text(dropped or "none", style="yellow" if dropped else ""))
    failed, style = found.shadow_failed, "red" if found.shadow_failed > found.live_failed else ""
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(found.errors.items()))
    told = f"{failed} by the shadow alone, {found.live_failed} by {found.against} alone, {found.both_failed} by both"
    table.add_row("failed", Text(f"{told} ({reasons})" if reasons else told, style=style))
    table.add_row("time", _times(found.live_seconds, found.shadow_seconds))
    return table


def _times(live: QuantileSketch, shadowed: QuantileSketch) -> str:
    def told(q: float) -> str:
        one, other = live.quantile(q), shadowed.quantile(q)
        ratio = other / one if one > 0 else float("nan")
        return f"p{q * 100:.0f} {one * _MS:.3g} → {other * _MS:.3g} ms (× {ratio:.2f})"

    return "   ".join(map(told, (0.5, 0.99)))


def _next(found: ComparisonReport) -> Text:
    """What a person may do with it."""
    if found.shadow_failed > found.live_failed:
        told = f"The shadow fails rows that {found.against} answers; see why: headrace shadow report {found.pipeline} --json"
    elif found.worst.sorted():
        told = (
            f"To run the worst rows again, take their inputs: headrace shadow report {found.pipeline} --json"
        )
    else:
        told = f"All answers are the same; give it traffic: headrace rollout start {found.pipeline}"
    return Text(told, style="dim")

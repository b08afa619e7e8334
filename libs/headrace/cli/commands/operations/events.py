"""`headrace events`: what was predicted, for whom, by what; its erasure, and replays."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.operations.event_calls import ask, named, tell_unreadable
from headrace.cli.commands.operations.event_replay import replay
from headrace.cli.consent import agree
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, place
from headrace.cli.tables import headed_table

events = typer.Typer(
    help="Events of predictions: find them, erase them, see what is missing.", no_args_is_help=True
)
events.command()(replay)


@events.command(name="list")
def list_events(
    pipeline: Annotated[str, typer.Option("--pipeline", help="Only of this pipeline.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Only of this tenant.")] = "",
    request: Annotated[str, typer.Option("--request", help="Only of the request with this id.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="The most events.")] = 20,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """List events, the newest first."""
    wanted = pb.ListEventsRequest(pipeline=pipeline, tenant=tenant, request_id=request, limit=limit)
    reply = ask(place(home), "ListEvents", wanted, pb.ListEventsResponse)
    found = [json.loads(event.content_json) for event in reply.events]
    if as_json:
        print(json.dumps(found, indent=2))
    elif not found:
        out.print("there are no such events")
    else:
        out.print(_table(found))
    tell_unreadable(reply.unreadable_segments)


@events.command()
def show(
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="Prediction id (REQUEST_ID/ROW), request id or event id.")
    ],
    home: Home = DEFAULT_HOME,
) -> None:
    """Show all of one event as JSON: inputs, feature values, outputs, models, times."""
    layout = place(home)
    for wanted in named(identity):
        reply = ask(layout, "ListEvents", wanted, pb.ListEventsResponse)
        tell_unreadable(reply.unreadable_segments)
        if reply.events:
            break
    else:
        fail(f"there is no event of {identity}; it may be older than what is kept")
    if len(reply.events) > 1:
        ids = ", ".join(f"{e.prediction_id} ({e.event_id})" for e in reply.events[1:])
        err.print(f"the newest of {len(reply.events)}; the others: {ids}", style="dim")
    print(json.dumps(json.loads(reply.events[0].content_json), indent=2))


@events.command()
def erase(
    tenant: Annotated[str, typer.Argument(help="Whose events.")],
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="INPUT=VALUE: events about whoever that is; several times."),
    ] = None,
    request: Annotated[list[str] | None, typer.Option("--request", help="Id of a request.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All events of the tenant.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Erase events: those about a person, of a request, or all of a tenant. It can't be undone."""
    subjects = [_subject(text) for text in subject or []]
    wanted = pb.EraseEventsRequest(
        tenant=tenant, subjects=subjects, request_ids=request or [], whole_tenant=everything
    )
    which = "all" if everything else "those of " + ", ".join([*(subject or []), *(request or [])])
    agree(f"events of {tenant} are erased for good: {which}")
    reply = ask(place(home), "EraseEvents", wanted, pb.EraseEventsResponse)
    out.print(
        f"{reply.erased_count} events are erased; {reply.rewritten_segment_count} segments were written anew"
    )
    tell_unreadable(reply.unreadable_segments)
    if reply.unreadable_segments:
        raise typer.Exit(1)


@events.command()
def gaps(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show which events routers made that were never stored."""
    reply = ask(place(home), "ListEventGaps", pb.ListEventGapsRequest(), pb.ListEventGapsResponse)
    rows = [
        {
            "replica": s.replica,
            "epoch": f"{s.epoch:016x}",
            "noted": s.noted_count,
            "stored": s.stored_count,
            "gaps": [[gap.first, gap.last] for gap in s.gaps],
        }
        for s in reply.streams
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = headed_table("router", "epoch", "made", "stored", "missing")
    for stream, row in zip(reply.streams, rows, strict=True):
        missing = ", ".join(f"{gap.first}-{gap.last}" for gap in stream.gaps) or "none"
        table.add_row(*(str(row[n]) for n in ("replica", "epoch", "noted", "stored")), missing)
    out.print(table)


def _table(found: list[dict[str, Any]]) -> Table:
    table = headed_table("prediction", "time", "tenant", "pipeline", "arm", "code", "ms", "outputs")
    for event in found:
        outputs = ", ".join(f"{name}={value}" for name, value in event["outputs"].items())
        named = (str(event[n]) for n in ("prediction_id", "time", "tenant", "pipeline", "arm", "code"))
        table.add_row(*named, f"{event['latency_us'] / 1000:.1f}", outputs)
    return table


def _subject(text: str) -> pb.EventSubject:
    column, equals, value = text.partition("=")
    if not (column and equals and value):
        fail(f"--subject {text!r}: write INPUT=VALUE")
    return pb.EventSubject(column=column, value=value)

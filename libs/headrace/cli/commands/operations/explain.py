"""`headrace explain`: why a prediction is as it is; which share is explained; what the groups of a column got.

It asks the monitoring service and the router on their sockets, which only the owner of the home can reach.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from typer.core import TyperGroup

from headrace.api.monitoring.v1 import events_pb2, explanations_pb2
from headrace.api.router.v1 import explain_pb2, router_pb2
from headrace.cli.commands.operations import event_calls, explain_views, service_calls
from headrace.cli.commands.operations.explain_views import Column, Shown
from headrace.cli.commands.requests.prediction import parse_inputs
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, fail, out, place
from headrace.cli.installation.layout import Layout
from headrace.hop.errors import Fault, Reason

_STORED = explanations_pb2.DESCRIPTOR.services_by_name["ExplanationsService"].methods_by_name
_ROUTER = router_pb2.DESCRIPTOR.services_by_name["RouterService"].methods_by_name
_DAY_S = 86_400


class _Explain(TyperGroup):
    """What is no command names a prediction: `headrace explain ID`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["prediction", *args]
        return super().parse_args(ctx, args)


explain = typer.Typer(
    cls=_Explain,
    help="Why predictions are as they are: headrace explain ID, or one of the commands.",
    no_args_is_help=True,
)


@explain.command()
def prediction(
    identity: Annotated[
        str,
        typer.Argument(
            metavar="[ID]", help="REQUEST_ID/ROW, as replies and `headrace events` name a prediction."
        ),
    ] = "",
    pipeline: Annotated[str, typer.Option("--pipeline", help="Explain --input by its live revision.")] = "",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="NAME=VALUE; features that are not given are read."),
    ] = None,
    output: Annotated[str, typer.Option("--output", help="Output to explain; else the document's.")] = "",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show what each column added to the output, against the base row: of a prediction, or of your own inputs."""
    layout = place(home)
    if bool(identity) == bool(pipeline):
        fail("name a prediction, or a pipeline and inputs: headrace explain ID | --pipeline NAME --input X=1")
    if identity and inputs:
        fail("the inputs of a prediction are in its event; leave --input away, or name a --pipeline")
    shown = (
        _of_prediction(layout, identity, output) if identity else _of_inputs(layout, pipeline, inputs, output)
    )
    if as_json:
        print(json.dumps(asdict(shown), indent=2))
    else:
        out.print(explain_views.draw(shown))


@explain.command()
def coverage(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show which share of the predictions that must be explained are, by pipeline."""
    reply = service_calls.ask(
        place(home),
        "monitoring",
        _STORED["GetExplanationCoverage"],
        explanations_pb2.GetExplanationCoverageRequest(),
        explanations_pb2.GetExplanationCoverageResponse,
    )
    if as_json:
        print(json.dumps(_dict(reply).get("pipelines", []), indent=2))
    elif not reply.pipelines:
        out.print(
            "no prediction must be explained yet: `explanations: {coverage: 1}` in a document demands it"
        )
    else:
        out.print(explain_views.coverage(reply.pipelines))


@explain.command()
def bias(
    pipeline: Annotated[str, typer.Argument(help="Its name.")],
    by: Annotated[
        str, typer.Option("--by", metavar="COLUMN", help="Input or feature column that makes the groups.")
    ],
    output: Annotated[str, typer.Option("--output", help="Output to compare; else the first number.")] = "",
    days: Annotated[float, typer.Option("--days", min=0.0, help="Not older; 0: all that is kept.")] = 0.0,
    least: Annotated[int, typer.Option("--least", min=1, help="Smaller groups are put together.")] = 30,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Compare what the groups of a column got: the output, wrong answers, and what the column added."""
    request = explanations_pb2.GetBiasSlicesRequest(
        pipeline=pipeline, column=by, output=output, least_group=least
    )
    if days:
        begins = datetime.now(UTC).timestamp() - days * _DAY_S
        request.begin_time.CopyFrom(Timestamp(seconds=int(begins)))
    reply = service_calls.ask(
        place(home), "monitoring", _STORED["GetBiasSlices"], request, explanations_pb2.GetBiasSlicesResponse
    )
    if as_json:
        print(json.dumps(_dict(reply), indent=2))
    else:
        out.print(explain_views.slices(reply, by))


def _of_prediction(layout: Layout, identity: str, output: str) -> Shown:
    """The stored explanation of a prediction; else it is explained now."""
    event = _event(layout, identity)
    event_id = str(event["event_id"])
    request = explanations_pb2.GetExplanationRequest(prediction_id=event_id)
    try:
        found = service_calls.answer(
            layout, "monitoring", _STORED["GetExplanation"], request, explanations_pb2.GetExplanationResponse
        )
    except Fault as fault:
        if fault.reason != Reason.REASON_PREDICTION_UNKNOWN:
            fail(fault.message)
        return _explained_now(layout, event, output)
    if output and output != found.explanation.output:
        return _explained_now(layout, event, output)
    one = found.explanation
    columns = [
        Column(*fields)
        for fields in zip(
            one.columns,
            found.values_json,
            one.contributions,
            one.standard_errors,
            one.base_sources,
            strict=True,
        )
    ]
    return Shown(
        one.pipeline, one.output, one.base, one.value, one.exact, columns, str(event["prediction_id"])
    )


def _event(layout: Layout, identity: str) -> dict[str, Any]:
    """The event that an id names. Ends the command if there is none, or if there are several."""
    found: list[dict[str, Any]] = []
    for request in event_calls.named(identity):
        reply = event_calls.ask(layout, "ListEvents", request, events_pb2.ListEventsResponse)
        found = found or [json.loads(event.content_json) for event in reply.events]
    if not found:
        fail(f"there is no event of the prediction {identity}; it may be older than what is kept")
    if len({event["prediction_id"] for event in found}) > 1:
        fail(f"{identity} has several rows; name one of them: headrace explain {found[-1]['prediction_id']}")
    return found[0]


def _explained_now(layout: Layout, event: Mapping[str, Any], output: str) -> Shown:
    identity = str(event["prediction_id"])
    if event["code"] != "OK":
        fail(f"the prediction {identity} failed ({event['reason']}); there is no answer to explain")
    known = {**event["inputs"], **event["features"]}
    row = {name: value for name, value in known.items() if name not in event["masked"]}
    request = explain_pb2.ExplainRequest(
        pipeline=event["pipeline"],
        revision=event["revision"],
        output=output,
        rows_json=[json.dumps(row)],
        seeds=[bytes.fromhex(event["event_id"])],
        tenant=event["tenant"],
        request_id=event["request_id"],
    )
    return _ask_router(layout, request, identity)


def _of_inputs(layout: Layout, pipeline: str, inputs: list[str] | None, output: str) -> Shown:
    try:
        row = parse_inputs(inputs or [])
    except ValueError as error:
        fail(str(error))
    request = explain_pb2.ExplainRequest(
        pipeline=pipeline, output=output, rows_json=[json.dumps(row)], request_id="explain"
    )
    return _ask_router(layout, request, "")


def _ask_router(layout: Layout, request: explain_pb2.ExplainRequest, identity: str) -> Shown:
    reply = service_calls.ask(layout, "router", _ROUTER["Explain"], request, explain_pb2.ExplainResponse)
    [row] = reply.rows
    columns = [
        Column(c.column, c.value_json, c.contribution, c.standard_error, c.base_source, c.base_json)
        for c in row.contributions
    ]
    columns.sort(key=lambda c: -abs(c.contribution))
    return Shown(request.pipeline, row.output, row.base, row.value, row.exact, columns, identity)


def _dict(reply: Any) -> dict[str, Any]:
    return dict(MessageToDict(reply, preserving_proto_field_name=True))

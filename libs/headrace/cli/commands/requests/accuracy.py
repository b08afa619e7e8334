"""`headrace outcomes show`: how often each version was right, as far as outcomes tell."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from headrace.api.monitoring.v1 import accuracy_pb2 as pb
from headrace.cli.commands.operations import service_calls
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, out, place
from headrace.cli.tables import headed_table
from headrace.pipeline.document.durations import duration_text

_COLUMNS = (
    "pipeline",
    "version",
    "accuracy",
    "expected",
    "coverage",
    "labels",
    "50 / 90 / 99 % within",
    "contradictions",
)


def show(
    pipeline: Annotated[str, typer.Argument(help="Only of this pipeline.")] = "",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show accuracy, coverage and the delay of labels of each version, and what the model itself expects."""
    request = pb.ReadAccuracyRequest(pipeline=pipeline)
    rpc = pb.DESCRIPTOR.services_by_name["AccuracyService"].methods_by_name["ReadAccuracy"]
    reply = service_calls.ask(place(home), "monitoring", rpc, request, pb.ReadAccuracyResponse)
    if as_json:
        print(json.dumps(_values(reply), indent=2))
    elif not reply.versions:
        out.print("there are no predictions of the last days")
    else:
        out.print(_table(reply))
        for line in _notes(reply):
            out.print(line, style="dim")


def _table(reply: pb.ReadAccuracyResponse) -> Table:
    table = headed_table(*_COLUMNS)
    for found in reply.versions:
        delays = " / ".join(duration_text(d.ToSeconds() * 1_000_000) for d in _delays(found)) or "–"
        table.add_row(
            found.pipeline,
            found.version,
            _share(found, "accuracy"),
            _share(found, "expected_accuracy"),
            _share(found, "coverage"),
            f"{found.label_count} of {found.prediction_count}",
            delays,
            str(found.contradiction_count),
        )
    return table


def _notes(reply: pb.ReadAccuracyResponse) -> list[str]:
    notes = []
    if any(not found.HasField("accuracy") for found in reply.versions):
        notes.append(f"accuracy is told of windows of which {reply.coverage_wanted:.0%} have a label")
    if any(not found.HasField("expected_accuracy") for found in reply.versions):
        notes.append(
            "expected accuracy needs a baseline that says that the model is calibrated:"
            " headrace models baseline --calibration"
        )
    return notes


def _values(reply: pb.ReadAccuracyResponse) -> dict[str, Any]:
    """Absent figures are null; delays in seconds."""
    versions = []
    for found in reply.versions:
        values = MessageToDict(
            found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name in ("coverage", "accuracy", "expected_accuracy"):
            values[name] = getattr(found, name) if found.HasField(name) else None
        for name in ("delay_p50", "delay_p90", "delay_p99"):
            values.pop(name, None)
            values[f"{name}_s"] = (
                getattr(found, name).ToMilliseconds() / 1000 if found.HasField(name) else None
            )
        # 64-bit numbers are texts in the JSON form of messages.
        values |= {name: int(value) for name, value in values.items() if name.endswith("_count")}
        versions.append(values)
    return {"coverage_wanted": reply.coverage_wanted, "versions": versions}


def _share(found: pb.VersionAccuracy, name: str) -> str:
    return f"{getattr(found, name):.2%}" if found.HasField(name) else "–"


def _delays(found: pb.VersionAccuracy) -> list[Any]:
    return [found.delay_p50, found.delay_p90, found.delay_p99] if found.HasField("delay_p50") else []

"""A prediction as an app backend would ask for it: through the door, with a key; and how it is shown."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.api.inference.v1 import inference_pb2
from headrace.hop.client_settings import Client as ClientSettings
from headrace.hop.dial import Client
from headrace.hop.errors import Code, Fault, reason_name
from headrace.hop.method import unary

_PREDICT = unary(
    inference_pb2.DESCRIPTOR,
    "InferenceService",
    "Predict",
    inference_pb2.PredictRequest,
    inference_pb2.PredictResponse,
    idempotent=True,
)
_TIMEOUT_S = 10.0
_SHOWN = 60


class PredictError(Exception):
    """The door refused or did not answer; the text is for a person."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.code.name} {reason_name(fault.reason)}: {fault.message}")
        self.code: Code = fault.code


def predict(
    address: str, key: str, pipeline: str, rows: Sequence[Mapping[str, Any]]
) -> inference_pb2.PredictResponse:
    """Asks the door at `address` (host:port, on this machine) for predictions of `rows`. Raises PredictError.

    Not through the SDK, which hides the trace context: this request is sampled, so that `headrace trace` can draw it.
    """
    request = inference_pb2.PredictRequest(pipeline=pipeline)
    for row in rows:
        request.rows.add().update(row)
    metadata = (
        ("authorization", f"Bearer {key}"),
        ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),
    )
    try:
        return asyncio.run(_call(address, request, metadata))
    except Fault as fault:
        raise PredictError(fault) from None


async def _call(
    address: str, request: inference_pb2.PredictRequest, metadata: Sequence[tuple[str, str]]
) -> inference_pb2.PredictResponse:
    client = Client("headrace", ClientSettings(target=address))
    try:
        call = client.unary(_PREDICT)
        return await call(request, deadline=time.monotonic() + _TIMEOUT_S, metadata=metadata)
    finally:
        await client.close()


def sample(requests: Path) -> dict[str, Any] | None:
    """The first of the prepared real rows; None if there are none."""
    try:
        with requests.open() as lines:
            row = json.loads(next(lines))
    except (FileNotFoundError, StopIteration):
        return None
    return dict(row)


def parse_inputs(pairs: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts as a row. A value is JSON where it reads as JSON (numbers, true, null), else text.

    Raises ValueError for a text without `=`.
    """
    row: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"{pair!r} is not NAME=VALUE, for example hour=17")
        try:
            row[name] = json.loads(text)
        except ValueError:
            row[name] = text
    return row


def read_files(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=PATH` texts as a row of the files' bytes, in base64. Raises ValueError for what is no such file."""
    row = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"{pair!r} is not NAME=PATH, for example image=picture.jpg")
        try:
            row[name] = base64.b64encode(Path(path).read_bytes()).decode()
        except OSError as error:
            raise ValueError(f"can't read {path} ({error.strerror})") from None
    return row


def as_json(answer: inference_pb2.PredictResponse) -> str:
    """The full response, with the field names of the contract."""
    return json_format.MessageToJson(answer, preserving_proto_field_name=True)


def draw(answer: inference_pb2.PredictResponse, row: Mapping[str, Any]) -> RenderableType:
    """A table of the first prediction: what went in, what came out, and what it stands on."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("input", "  ".join(f"{name}={_short(value)}" for name, value in row.items()))
    for prediction in answer.predictions[:1]:
        if prediction.HasField("error"):
            table.add_row("error", Text(prediction.error.message, style="red"))
        for name, value in sorted(prediction.outputs.items()):
            table.add_row(Text(name, style="bold green"), Text(_value(value), style="bold green"))
        for view in sorted(prediction.features):
            table.add_row(f"features/{view}", _age(prediction.features[view]))
        if prediction.fallbacks:
            table.add_row("fallbacks", Text(", ".join(prediction.fallbacks), style="yellow"))
    for model in answer.models:
        table.add_row("model", f"{model.model} version {model.version}  sha256 {model.sha256[:12]}…")
    table.add_row("pipeline", f"{answer.pipeline} version {answer.version}  revision {answer.revision[:12]}…")
    table.add_row("request id", answer.request_id)
    table.add_row("trace id", answer.trace_id)
    return Group(table)


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _age(age: inference_pb2.FeatureAge) -> Text:
    style = "" if age.source == "present" else "yellow"
    return Text(f"{age.source}, {duration(age.age_ms)} old" if age.HasField("age_ms") else age.source, style)


def duration(ms: int) -> str:
    """Milliseconds as a person says them."""
    seconds = ms / 1000
    for limit, per, unit in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / per:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"

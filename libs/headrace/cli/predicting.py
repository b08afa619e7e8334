"""A prediction as an app backend would ask for it: through the door, with a key; and how it is shown."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.api.inference.v1 import inference_pb2

_PATH = "/headrace.api.inference.v1.InferenceService/Predict"
_TIMEOUT_S = 10.0


class PredictError(Exception):
    """The door refused or did not answer; the text is for a person. `code`: as the door named it."""

    def __init__(self, text: str, code: str = "unavailable") -> None:
        super().__init__(text)
        self.code = code


def predict(
    address: str, key: str, pipeline: str, rows: Sequence[Mapping[str, Any]]
) -> inference_pb2.PredictResponse:
    """Asks `address` (host:port) for predictions of `rows`. The request is traced. Raises PredictError."""
    request = {"pipeline": pipeline, "rows": [dict(row) for row in rows]}
    status, body = _post(address, key, json.dumps(request).encode())
    if status != http.HTTPStatus.OK:
        raise _refusal(status, body)
    try:
        return json_format.Parse(body, inference_pb2.PredictResponse())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise PredictError(f"{address} did not answer like headrace's door: {error}") from error


def _post(address: str, key: str, body: bytes) -> tuple[int, bytes]:
    headers = {
        "content-type": "application/json",
        "connect-protocol-version": "1",
        "connect-timeout-ms": str(int(_TIMEOUT_S * 1000)),
        "authorization": f"Bearer {key}",
        # Sampled, so that `headrace trace` can draw it.
        "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
    }
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", _PATH, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        text = f"{address} does not answer ({error}); is it running? See: headrace status"
        raise PredictError(text) from error
    finally:
        connection.close()


def _refusal(status: int, body: bytes) -> PredictError:
    try:
        told = json.loads(body)
        return PredictError(f"{told['code']}: {told.get('message', '')}", str(told["code"]))
    except (ValueError, KeyError, TypeError):
        return PredictError(f"HTTP {status}: {body[:300].decode(errors='replace')}")


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


def as_json(answer: inference_pb2.PredictResponse) -> str:
    """The full response, with the field names of the contract."""
    return json_format.MessageToJson(answer, preserving_proto_field_name=True)


def draw(answer: inference_pb2.PredictResponse, row: Mapping[str, Any]) -> RenderableType:
    """A table of the first prediction: what went in, what came out, and what it stands on."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("input", "  ".join(f"{name}={value}" for name, value in row.items()))
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

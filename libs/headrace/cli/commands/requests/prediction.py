"""A prediction as a client asks for it, through the ingress and with a key; and how it is shown."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from headrace.cli.tables import titled_rows
from headrace.client import FeatureAge, Headrace, ModelUse, Prediction, PredictResult
from headrace.pipeline.document.durations import duration_text

_TIMEOUT_S = 10.0
_SHOWN = 60


def predict(address: str, key: str, pipeline: str, rows: Sequence[Mapping[str, Any]]) -> PredictResult:
    """Asks the ingress at `address` (host:port, on this machine) for predictions of `rows`.

    The request is sampled, so that `headrace trace` can draw it. Raises HeadraceError, ValueError for a row that
    can't be sent.
    """
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    with Headrace(address, key=key, timeout_s=_TIMEOUT_S) as client:
        return client.predict(pipeline, rows, traceparent=traceparent)


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


def as_json(answer: PredictResult) -> str:
    """The full response, with the field names of the contract; what is empty is left out."""
    shown = {
        "request_id": answer.request_id,
        "pipeline": answer.pipeline,
        "version": answer.version,
        "revision": answer.revision,
        "models": [asdict(model) for model in answer.models],
        "predictions": [_prediction(prediction) for prediction in answer.predictions],
        "trace_id": answer.trace_id,
    }
    return json.dumps(shown, indent=2)


def _prediction(prediction: Prediction) -> dict[str, Any]:
    shown = {
        "outputs": prediction.outputs,
        "fallbacks": prediction.fallbacks,
        "features": {view: asdict(age) for view, age in prediction.feature_ages.items()},
        "error": asdict(prediction.error) if prediction.error is not None else None,
    }
    return {name: value for name, value in shown.items() if value}


def draw(answer: PredictResult, row: Mapping[str, Any]) -> RenderableType:
    """A table of the first prediction: its input, its output, and the features and models behind it."""
    table = titled_rows()
    table.add_row("input", "  ".join(f"{name}={_short(value)}" for name, value in row.items()))
    for prediction in answer.predictions[:1]:
        if prediction.error is not None:
            table.add_row("error", Text(prediction.error.message, style="red"))
        for name, value in sorted(prediction.outputs.items()):
            table.add_row(Text(name, style="bold green"), Text(_value(value), style="bold green"))
        for view in sorted(prediction.feature_ages):
            table.add_row(f"features/{view}", _age(prediction.feature_ages[view]))
        if prediction.fallbacks:
            table.add_row("fallbacks", Text(", ".join(prediction.fallbacks), style="yellow"))
    for model in answer.models:
        table.add_row("model", _model(model))
    table.add_row("pipeline", f"{answer.pipeline} version {answer.version}  revision {answer.revision[:12]}…")
    table.add_row("request id", answer.request_id)
    table.add_row("trace id", answer.trace_id)
    return Group(table)


def _model(model: ModelUse) -> str:
    shown = f"{model.model} version {model.version}  sha256 {model.sha256[:12]}…  {model.backend}"
    return f"{shown}{' (standby)' if model.standby else ''}{' (cold start)' if model.cold_start else ''}"


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _age(age: FeatureAge) -> Text:
    style = "" if age.source == "present" else "yellow"
    if age.age_ms is None:
        return Text(age.source, style)
    return Text(f"{age.source}, {duration_text(round(age.age_ms, -3) * 1000)} old", style)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"

"""Predictions are counted for the monitoring service, and their outcomes reach it: by the command line, JSON and the SDK."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.cli.installation import layout
from headrace.client import Headrace, Outcome
from tests.posting import post_json
from tests.system import (
    DOCUMENTS,
    HOME,
    System,
    add_document,
    headrace,
    poll,
    remove_document,
    row_request,
)

PATH = "/headrace.api.inference.v1.InferenceService/RecordOutcomes"
LABELLED = "labelled"


def stored(request_id: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(layout.of(HOME).facts)) as connection:
        return connection.execute(
            "SELECT tenant, row, name, value, label FROM outcomes WHERE request_id = ? ORDER BY row, name",
            (request_id,),
        ).fetchall()


def test_outcomes_of_a_prediction_are_stored(system: System, tmp_path: Path) -> None:
    answer = system.predict(row_request(*system.rows[:3]))
    request = answer.request_id
    late = bool(answer.predictions[0].outputs["delayed"])
    file = tmp_path / "outcomes.jsonl"
    lines = [
        {"request_id": request, "row": 0, "name": "delayed", "value": late},
        {
            "request_id": request,
            "row": 1,
            "name": "delay_minutes",
            "value": 12.5,
            "time": "2026-01-02T03:04:05Z",
        },
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert "2 outcomes stored" in headrace("outcomes", "post", str(file))
    file.write_text(json.dumps({"request_id": request, "row": 2, "name": "delayed", "value": True}))
    assert "1 outcome stored" in headrace("outcomes", "post", str(file))
    with Headrace(system.endpoints["grpc"], key=system.key) as client:
        assert client.record_outcomes([Outcome(request, "cost", 3.0)]).stored == 1
    body = {"outcomes": [{"requestId": request, "row": 2, "name": "delayed", "label": False}]}
    status, reply = post_json(system, PATH, body)
    assert (status, reply["acceptedCount"]) == (200, 1)  # the first one stays
    never = {"outcomes": [{"requestId": "never", "name": "delayed", "label": False}]}
    assert post_json(system, PATH, never) == (200, {"acceptedCount": 1, "unknownCount": 1})
    assert stored(request) == [
        ("demo", 0, "cost", 3.0, 0),
        ("demo", 0, "delayed", float(late), 1),
        ("demo", 1, "delay_minutes", 12.5, 0),
        ("demo", 2, "delayed", 1.0, 1),
    ]


def test_accuracy_is_told_with_its_coverage(system: System) -> None:
    if system.shape == "together":
        pytest.skip("together, a service has no process of its own")
    # A pipeline of its own: coverage is told of windows that have ended, and one of an hour may have begun since the other tests.
    text = (DOCUMENTS / "flights" / "pipeline.yaml").read_text()
    add_document(LABELLED, text.replace("pipeline: flights", f"pipeline: {LABELLED}"))
    answer = poll("the pipeline is served", lambda: predicted(system))
    rows = [bool(prediction.outputs["delayed"]) for prediction in answer.predictions]
    with Headrace(system.endpoints["grpc"], key=system.key) as client:
        assert client.record_outcomes(
            [Outcome(answer.request_id, "delayed", value, row) for row, value in enumerate(rows)]
        ).stored

    def told() -> dict[str, Any] | None:
        found: dict[str, Any] = json.loads(headrace("outcomes", "show", LABELLED, "--json"))
        newest = found["versions"][:1]
        return newest[0] if newest and newest[0]["label_count"] >= len(rows) else None

    found = poll("the outcomes are joined", told, 120)
    assert found["version"].startswith("flights_light=")
    assert 0 < found["coverage"] <= 1
    assert found["delay_p50_s"] > 0
    assert found["expected_accuracy"] is None, "its baseline says nothing of calibration"
    assert "flights_light=" in headrace("outcomes", "show")
    remove_document(LABELLED)


def predicted(system: System) -> pb.PredictResponse | None:
    """Three predictions of the pipeline, once it is served."""
    try:
        return system.predict(row_request(*system.rows[:3], pipeline=LABELLED))
    except grpc.RpcError:
        return None

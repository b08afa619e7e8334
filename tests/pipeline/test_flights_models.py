"""Preparing the flights pipeline: models that run anywhere, and no work that is not due."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pandas as pd
import prometheus_client  # noqa: F401 - before Feast, whose import changes where metrics live
import pytest

from deploy.pipelines.flights import training
from deploy.pipelines.flights.exporting import to_onnx
from deploy.pipelines.flights.prepare import REFRESH, prepare
from headrace.repository import Repository

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_the_exported_graph_is_the_trained_network_in_plain_operators() -> None:
    dice = np.random.default_rng(5)
    inputs = dice.normal(50, 20, (2_000, 24)).astype(np.float32)
    late = inputs[:, 3] + dice.normal(0, 5, 2_000) > 60
    data = training.Examples(inputs[:1_500], late[:1_500], inputs[1_500:], late[1_500:], {})
    trained = training.train(training.Recipe((32, 16), 20), data)
    content = to_onnx("small", trained)
    graph = onnx.load_from_string(content).graph
    assert {n.op_type for n in graph.node} == {"Sub", "Div", "Gemm", "Relu", "Softmax"}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"input": data.judge})
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (500, 2)
    assert training.metrics(probabilities[:, 1], data.judge_late) == pytest.approx(trained.metrics, abs=2e-3)
    assert trained.metrics["auc"] > 0.8


def test_preparing_does_what_is_due_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "ROWS", 4_000)
    monkeypatch.setattr(training, "LEARN_FROM", pd.Timestamp("2013-10-15", tz="UTC"))
    steps: list[str] = []

    def run(now: datetime) -> list[str]:
        steps.clear()
        prepare(tmp_path, "", now, lambda step, _done, _total: steps.append(step.split(" (")[0]))
        return list(dict.fromkeys(steps))

    assert run(NOW)[-1] == "flights is prepared"
    assert "training models" in steps
    first = json.loads((tmp_path / "models" / "flights_light" / "1" / "metadata.json").read_text())
    # So few flights teach nothing; what counts is that later ones are the judges.
    assert {"auc", "brier", "calibration_error"} <= set(first["metrics"])
    assert first["trained_on"]["to"] < "2013-11-01"
    published = Repository(tmp_path / "models")
    assert {m: published.read(m, "1").metadata.inputs[0].row_shape for m in published.models()} == {
        "flights_heavy": (24,),
        "flights_light": (24,),
    }
    assert run(NOW + timedelta(minutes=5)) == ["flights is prepared"]
    later = run(NOW + REFRESH)
    assert "filling the online store" in later
    assert "training models" not in later
    weather = pd.read_parquet(tmp_path / "data" / "weather.parquet")
    assert weather["event_timestamp"].max() == pd.Timestamp(NOW + REFRESH)
    lines = (tmp_path / "data" / "requests.jsonl").read_text().splitlines()
    assert len(lines) >= 2_000
    assert set(json.loads(lines[0])) == {
        "carrier", "origin", "dest", "tailnum", "month", "day_of_week", "hour", "minute",
    }  # fmt: skip

"""The shown prediction equals an offline recomputation, and changes when a value in the online store is changed."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any, cast

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest

from headrace.columns import Column
from headrace.pipeline import StepsStage, load
from headrace.repository import Repository
from headrace.steps import compile_steps
from tests.system import HOME, ROOT, System, poll, row_request

DOCUMENT = load(ROOT / "deploy" / "pipelines" / "flights" / "pipeline.yaml")
FEAST = ROOT / "tests" / "clients" / "feast_store.py"


def feast(*arguments: str) -> str:
    command = [sys.executable, str(FEAST), str(HOME / "feast"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def stored(row: dict[str, Any]) -> dict[str, Any]:
    """The row's features as stock Feast reads them; asked once, since each question costs an import of Feast."""
    return dict(json.loads(_read(json.dumps(row))))


@functools.cache
def _read(row: str) -> str:
    return feast("read", row)


def recomputed(row: dict[str, Any], features: dict[str, Any], version: str) -> float:
    """Probability by the document's own steps and the model's artifact, with no service between."""
    [assemble] = [s for s in DOCUMENT.stages if isinstance(s, StepsStage) and s.kind == "preprocessing"]
    columns = {k: Column.of_text(k, [v]) for k, v in row.items() if isinstance(v, str)}
    columns |= {k: Column.of(k, np.array([v], np.int32)) for k, v in row.items() if isinstance(v, int)}
    for name, value in features.items():
        valid = None if value is not None else np.array([False])
        columns[name] = Column.of(name, np.array([value or 0.0], np.float64), valid)
    program = compile_steps("preprocessing", assemble.spec)
    inputs = program.run(columns, 1).columns["input"].array
    artifact = Repository(HOME / "models").read("flights_light", version)
    session = onnxruntime.InferenceSession(artifact.content, providers=["CPUExecutionProvider"])
    [probabilities] = session.run(None, {"input": inputs})
    return float(probabilities[0, 1])


def predicted(system: System, row: dict[str, Any]) -> tuple[float, str]:
    answer = system.predict(row_request(row))
    return cast("float", answer.predictions[0].outputs["probability"]), answer.models[0].version


def test_a_prediction_equals_its_offline_recomputation(system: System) -> None:
    row = system.rows[3]
    probability, version = predicted(system, row)
    assert probability == pytest.approx(recomputed(row, stored(row), version), abs=1e-6)


def test_a_changed_feature_changes_the_prediction(system: System) -> None:
    row = system.rows[3]
    before, version = predicted(system, row)
    features = stored(row)
    weather = {k: features[k] for k in ("temp", "humid", "wind_speed", "precip", "pressure", "visib")}
    storm = {**weather, "precip": 1.2, "wind_speed": 45.0, "visib": 0.25}
    feast("write", "weather", json.dumps(row), json.dumps(storm))
    try:
        after = poll("the prediction follows", lambda: _changed(system, row, before))
        assert after == pytest.approx(recomputed(row, {**features, **storm}, version), abs=1e-6)
    finally:
        feast("write", "weather", json.dumps(row), json.dumps(weather))
    poll("and goes back", lambda: predicted(system, row)[0] == pytest.approx(before, abs=1e-6))


def _changed(system: System, row: dict[str, Any], before: float) -> float | None:
    now, _ = predicted(system, row)
    return now if abs(now - before) > 1e-4 else None

"""What `make up` shows: the status, and a real prediction, on features that are there."""

import json
import re
from typing import Any, cast

import pytest

from tests.pipeline.flights_store import WEATHER, feast, recomputed, stored
from tests.system import System, poll, row_request


def test_eight_processes_or_three(system: System) -> None:
    services = system.status()["services"]
    together = {"ingress", "control", "monitoring"}
    apart = {*together, "router", "features", "preprocessing", "executor", "postprocessing"}
    assert set(services) == (apart if system.shape == "apart" else together)
    assert {s["state"] for s in services.values()} == {"ready"}
    assert len({s["pid"] for s in services.values()}) == len(services)


def test_a_prediction_says_what_it_stands_on(system: System) -> None:
    answer = system.predict(row_request(system.rows[0], request_id="first-1"))
    [prediction] = answer.predictions
    assert answer.request_id == "first-1"
    assert answer.pipeline == "flights"
    assert re.fullmatch("[0-9a-f]{64}", answer.revision)
    assert re.fullmatch("[0-9a-f]{32}", answer.trace_id)
    assert [m.model for m in answer.models] == ["flights_light"]
    assert answer.models[0].version
    assert 0.0 <= prediction.outputs["probability"] <= 1.0
    assert isinstance(prediction.outputs["delayed"], bool)
    assert list(prediction.fallbacks) == []
    assert {age.source for age in prediction.features.values()} == {"present"}
    assert all(age.age_ms >= 0 for age in prediction.features.values())


def test_rows_of_one_request_answer_as_they_do_alone(system: System) -> None:
    rows = system.rows[:16]
    many = system.predict(row_request(*rows))
    single = [system.predict(row_request(row)).predictions[0] for row in rows]
    assert [p.outputs["probability"] for p in many.predictions] == [p.outputs["probability"] for p in single]


def test_an_unknown_entity_gets_defaults_and_the_reply_says_so(system: System) -> None:
    [prediction] = system.predict(row_request({**system.rows[0], "tailnum": "N0SUCH"})).predictions
    assert any("not_found" in name for name in prediction.fallbacks)
    assert "not_found" in {age.source for age in prediction.features.values()}
    assert 0.0 <= prediction.outputs["probability"] <= 1.0


def predicted(system: System, row: dict[str, Any]) -> tuple[float, str]:
    answer = system.predict(row_request(row))
    return cast("float", answer.predictions[0].outputs["probability"]), answer.models[0].version


def test_a_changed_feature_changes_the_prediction(system: System) -> None:
    row = system.rows[3]
    before, version = predicted(system, row)
    features = stored(row)
    weather = {k: features[k] for k in WEATHER}
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

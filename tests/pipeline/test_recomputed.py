"""The shown prediction equals an offline recomputation, and changes when a value in the online store is changed."""

import json
from typing import Any, cast

import pytest

from tests.pipeline.flights_store import WEATHER, feast, recomputed, stored
from tests.system import System, poll, row_request


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

"""A value that ages beyond what the pipeline's document allows: present, then stale, then a default or a refusal."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from headrace.api.errors.v1 import errors_pb2
from headrace.api.inference.v1 import inference_pb2 as pb
from tests.gauges import samples
from tests.pipeline.flights_store import WEATHER, feast, recomputed, stored
from tests.system import ROOT, System, add_document, headrace, poll, remove_document, row_request

MAX_AGE_S, STALE_S = 6, 5
DEPLOYED = "freshness: {max_age: 1d, stale: 1d}"
RULE = f"freshness: {{max_age: {MAX_AGE_S}s, stale: {STALE_S}s"
PIPELINES = {"aging": f"{RULE}}}", "refusing": f"{RULE}, otherwise: refuse}}"}


@pytest.fixture(scope="module")
def row(system: System) -> Iterator[dict[str, Any]]:
    """A flight whose weather is new now; the two pipelines are served."""
    head, weather = (ROOT / "deploy/pipelines/flights/pipeline.yaml").read_text().split("weather:\n")
    assert DEPLOYED in weather
    for name, rule in PIPELINES.items():
        text = f"{head}weather:\n{weather.replace(DEPLOYED, rule)}"
        add_document(name, text.replace("pipeline: flights", f"pipeline: {name}"))
    row = system.rows[3]
    values = json.dumps({k: stored(row)[k] for k in WEATHER})
    poll("the pipelines are served", lambda: all(_served(system, n, row) for n in PIPELINES))
    feast("write", "weather", json.dumps(row), values)
    yield row
    feast("write", "weather", json.dumps(row), values)
    for name in PIPELINES:
        remove_document(name)


def _served(system: System, pipeline: str, row: dict[str, Any]) -> bool:
    try:
        system.predict(row_request(row, pipeline=pipeline))
    except grpc.RpcError as error:
        return error.code() is not grpc.StatusCode.NOT_FOUND
    return True


def asked(system: System, row: dict[str, Any]) -> dict[str, pb.Prediction]:
    """What each pipeline says. The row twice: a request of one row would fail with it."""
    answers = {
        name: system.predict(row_request(row, row, pipeline=name, request_id=f"{name}-now"))
        for name in PIPELINES
    }
    return {name: answer.predictions[0] for name, answer in answers.items()}


def from_source(system: System, row: dict[str, Any], source: str) -> dict[str, pb.Prediction]:
    """What the pipelines say once the weather is from `source` for both."""

    def found() -> dict[str, pb.Prediction] | None:
        answers = asked(system, row)
        return answers if {a.features["weather"].source for a in answers.values()} == {source} else None

    return poll(f"weather that is {source}", found)


def counted(system: System, family: str, **labels: str) -> float:
    """A counter's value, of all processes together."""
    return sum(value for found, value in samples(system, family) if labels.items() <= found.items())


def test_values_are_present_then_stale_then_defaults_or_refused(
    system: System, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    present = from_source(system, row, "present")
    shown = present["aging"].outputs["probability"]
    assert present["aging"].features["weather"].age_ms <= MAX_AGE_S * 1000
    assert not present["aging"].fallbacks

    stale = from_source(system, row, "stale")
    for answer in stale.values():
        assert list(answer.fallbacks) == ["features/weather:stale"]
        assert answer.outputs["probability"] == shown
        assert MAX_AGE_S * 1000 <= answer.features["weather"].age_ms <= (MAX_AGE_S + STALE_S) * 1000

    old = from_source(system, row, "outside_max_age")
    assert list(old["aging"].fallbacks) == ["features/weather:outside_max_age"]
    without = {**stored(row), **dict.fromkeys(WEATHER)}
    version = system.predict(row_request(row)).models[0].version
    assert old["aging"].outputs["probability"] == pytest.approx(recomputed(row, without, version), abs=1e-6)

    refused = old["refusing"].error
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert refused.reason == errors_pb2.REASON_FEATURE_UNAVAILABLE
    assert (refused.metadata["view"], refused.metadata["source"]) == ("weather", "outside_max_age")
    assert (
        int(refused.metadata["age_ms"]) >= int(refused.metadata["max_age_ms"]) == 1000 * (MAX_AGE_S + STALE_S)
    )
    assert "weather" in refused.message
    with pytest.raises(grpc.RpcError) as alone:
        system.predict(row_request(row, pipeline="refusing", request_id="refusing-alone"))
    assert alone.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    cause = "features/weather:outside_max_age"
    assert counted(system, "headrace_router_refused_rows_total", pipeline="refusing", cause=cause) >= 1
    assert counted(system, "headrace_router_fallback_rows_total", pipeline="aging", fallback=cause) >= 1
    for source in ("present", "stale", "outside_max_age"):
        assert counted(system, "headrace_features_rows_total", view="weather", source=source) >= 1
    # A failed request's trace is kept; a narrow console folds its lines.
    monkeypatch.setenv("COLUMNS", "500")
    drawn = headrace("trace", "refusing-alone")
    assert "features.weather=outside_max_age=1" in drawn
    assert f"refused={cause}" in drawn

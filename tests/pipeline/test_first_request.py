"""What `make up` shows: a real prediction, on features that are there, that a change in the store changes."""

import re

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.system import System, row_request


def test_seven_processes_or_one(system: System) -> None:
    services = system.status()["services"]
    expected = {"ingress", "router", "features", "preprocessing", "executor", "postprocessing", "monitoring"}
    assert set(services) == (expected if system.shape == "apart" else {"ingress"})
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


def test_the_server_makes_request_ids(system: System) -> None:
    ids = {system.predict(row_request(system.rows[0])).request_id for _ in range(3)}
    assert len(ids) == 3
    assert all(ids)


def test_an_unknown_entity_gets_defaults_and_the_reply_says_so(system: System) -> None:
    [prediction] = system.predict(row_request({**system.rows[0], "tailnum": "N0SUCH"})).predictions
    assert any("not_found" in name for name in prediction.fallbacks)
    assert "not_found" in {age.source for age in prediction.features.values()}
    assert 0.0 <= prediction.outputs["probability"] <= 1.0


def test_list_pipelines_shows_the_schema(system: System) -> None:
    with system.channel() as channel:
        call = channel.unary_unary(
            "/headrace.api.inference.v1.InferenceService/ListPipelines",
            pb.ListPipelinesRequest.SerializeToString,
            pb.ListPipelinesResponse.FromString,
        )
        listed = call(pb.ListPipelinesRequest(), timeout=30, metadata=system.auth()).pipelines
        [pipeline] = [p for p in listed if p.name == "flights"]
    assert pipeline.name == "flights"
    assert {"carrier", "origin", "dest", "tailnum"} <= {f.name for f in pipeline.inputs}
    assert {f.name for f in pipeline.outputs} == {"delayed", "probability"}

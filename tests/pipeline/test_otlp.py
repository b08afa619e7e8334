"""Spans reach an OpenTelemetry collector, and one that is away holds nobody up."""

import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
import yaml

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.cli.installation import layout, services
from tests.faults.traffic import serves
from tests.pipeline.collector import Collector, Span
from tests.system import (
    HOME,
    System,
    add_document,
    headrace,
    override,
    poll,
    remove_document,
    row_request,
)

# All services are told of the collector, and yet each hop may come only once.
HOPS = {"apart": tuple(services.start_order()), "together": ("ingress",)}
SERVICES = {"ingress", "router", "features", "preprocessing", "executor", "postprocessing"}


@pytest.fixture(scope="module")
def told(system: System) -> Iterator[Collector]:
    """Who is told of the spans of the services in HOPS."""
    names = HOPS[system.shape]
    paths = {name: layout.of(HOME).override(name) for name in names}
    before = {n: yaml.safe_load(p.read_text()) if p.exists() else {} for n, p in paths.items()}
    with Collector.running() as collector:
        for name in names:
            # By default one request in a hundred is sampled, whatever its caller says.
            endpoint = {"otlp_endpoint": f"http://127.0.0.1:{collector.port}", "trace_ratio": 1e-12}
            own = {"traces": {"slow_s": 1000}} if name == "ingress" else {}  # slow ones are told of, too
            override(name, {**before[name], **own, "telemetry": endpoint})
        try:
            for name in names:
                headrace("restart", name)
            yield collector
        finally:
            for name in names:
                override(name, before[name])
            for name in names:
                headrace("restart", name)


def sampled(system: System, trace: str, parent: str, request_id: str) -> pb.PredictResponse:
    """A prediction whose caller traces it."""
    request = row_request(system.rows[0], request_id=request_id)
    return system.predict(request, traceparent=f"00-{trace}-{parent}-01")


def test_a_sampled_request_arrives_as_one_tree(system: System, told: Collector) -> None:
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    began = time.time_ns()
    answer = sampled(system, trace, parent, "otlp-1")
    assert answer.trace_id == trace

    def whole() -> list[Span] | None:
        spans = told.of(trace)
        return spans if {s.service for s in spans} >= SERVICES else None

    spans = poll("spans of all services", whole)
    by_id = {s.span: s for s in spans}
    assert tree(spans, parent) == [
        ("ingress", "SERVER", f"{DOOR}/Predict", [hop("ingress", "router", "Infer", FLIGHTS)])
    ]
    assert len(by_id) == len(spans) == len(list(below(spans, parent)))
    for span in spans:
        around = by_id.get(span.parent)
        assert began <= span.start_ns <= span.end_ns <= time.time_ns()
        assert around is None or around.start_ns <= span.start_ns <= span.end_ns <= around.end_ns
    attributes = {(s.service, s.kind): s.attributes for s in spans}
    root, run = attributes["ingress", "SERVER"], attributes["executor", "SERVER"]
    assert (root["request_id"], root["pipeline"], root["tenant"]) == ("otlp-1", "flights", "demo")
    assert (run["model.name"], run["model.version"]) == ("flights_light", "1")
    stages = {s.attributes["headrace.stage"] for s in spans if s.kind == "CLIENT" and s.service == "router"}
    assert stages == {"store", "assemble", "light", "verdict"}


DOOR = "headrace.api.inference.v1.InferenceService"


def hop(caller: str, callee: str, method: str, inside: list[Any]) -> Any:
    """One call of a service: the caller's span, and in it the callee's."""
    name = f"headrace.api.{callee}.v1.{callee.capitalize()}Service/{method}"
    return (caller, "CLIENT", name, [(callee, "SERVER", name, inside)])


def within(service: str, name: str, *inside: Any) -> Any:
    return (service, "INTERNAL", name, list(inside))


FLIGHTS = [
    hop("router", "features", "GetFeatures", [within("features", "features", within("features", "store"))]),
    hop("router", "preprocessing", "Transform", [within("preprocessing", "preprocessing")]),
    hop("router", "executor", "Execute", [within("executor", "queue"), within("executor", "run")]),
    hop("router", "postprocessing", "Format", [within("postprocessing", "postprocessing")]),
]


def tree(spans: list[Span], parent: str) -> list[Any]:
    """(service, kind, name, what is below) of the spans below one, in the order of their beginnings."""
    found = sorted((s for s in spans if s.parent == parent), key=lambda s: (s.start_ns, s.name))
    return [(s.service, s.kind, s.name, tree(spans, s.span)) for s in found]


def below(spans: list[Span], parent: str) -> Iterator[Span]:
    for span in spans:
        if span.parent == parent:
            yield span
            yield from below(spans, span.span)


FAILING = """
pipeline: failing
version: 1
deadline_ms: 30000
inputs: {x: float64}
stages:
  - preprocessing: logarithm
    steps: [log1p: {column: x, into: y}]
    outputs: {y: float64}
  - postprocessing: verdict
    steps: [threshold: {column: y, at: 1, into: high}]
    outputs: {high: bool}
outputs: [high]
"""


@pytest.fixture
def _failing(system: System) -> Iterator[None]:
    add_document("failing", FAILING)
    poll("the pipeline is served", lambda: serves(system, {"x": 1.0}, "failing"))
    yield
    remove_document("failing")


@pytest.mark.usefixtures("_failing")
@pytest.mark.parametrize("values", [[-5.0], [2.0, -5.0, -6.0]])
def test_a_failed_stage_arrives_as_failed(system: System, told: Collector, values: list[float]) -> None:
    request = row_request(*[{"x": x} for x in values], pipeline="failing", request_id=f"otlp-{len(values)}")
    trace = secrets.token_hex(16)
    with suppress(grpc.RpcError):
        system.predict(request, traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")

    def spans_of_door() -> dict[str, Span] | None:
        found = {
            s.attributes.get("headrace.stage") or s.name.rpartition("/")[2]: s
            for s in told.of(trace)
            if s.kind == "CLIENT" or s.name.endswith("/Predict")
        }
        return found if "logarithm" in found and "Predict" in found else None

    spans = poll("the request's spans", spans_of_door)
    for name in ("Infer", "logarithm"):
        assert (spans[name].status, spans[name].message) == ("ERROR", "INVALID_ARGUMENT")
        assert spans[name].attributes["reason"] == "INPUT_RANGE"
        assert spans[name].attributes["failed_rows"] == str(sum(x < 0 for x in values))
    # With a row that was answered the request is not lost as a whole, nor is the stage behind.
    assert spans["Predict"].status == ("ERROR" if len(values) == 1 else "")
    if len(values) > 1:
        assert spans["Predict"].attributes["failed_rows"] == "2"
        assert spans["verdict"].status == ""


def test_a_collector_that_is_away_holds_nobody_up(system: System, told: Collector) -> None:
    told.stop()
    for i in range(20):
        sampled(system, secrets.token_hex(16), secrets.token_hex(8), f"otlp-away-{i}")
    # Nobody takes the spans; the local store has them as soon as ever.
    poll("the last one's trace", lambda: stored("otlp-away-19"))
    sampled(system, secrets.token_hex(16), secrets.token_hex(8), "otlp-away-later")
    poll("a later one's trace", lambda: stored("otlp-away-later"))
    pid = system.pid("ingress")
    headrace("restart", "ingress")
    assert system.pid("ingress") != pid
    assert system.predict(row_request(system.rows[0])).predictions


def stored(request_id: str) -> bool:
    """Whether the home's store of traces has it."""
    folder = layout.of(HOME).traces
    return any(f'"request_id":"{request_id}"' in path.read_text() for path in folder.glob("*.jsonl"))

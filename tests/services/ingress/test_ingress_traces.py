"""Traces: spans nest as the stages do, and the store stays within its bounds."""

from pathlib import Path
from typing import Any

import pytest

from headrace.columns import Batch, Rows, Timing
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import load
from headrace.state.traces import FILE, find
from services.ingress.documents.catalog import Entry
from services.ingress.inference import InferenceResult
from services.ingress.reporting.otlp import OtlpExporter
from services.ingress.reporting.span_store import SpanStore
from services.ingress.reporting.traces import record
from services.ingress.request_context import RequestContext, begin
from tests.pipeline.collector import Collector

FLIGHTS = Path(__file__).parents[3] / "deploy" / "pipelines" / "flights" / "pipeline.yaml"


def answer(context: RequestContext, timings: list[Timing]) -> None:
    batch = Batch(Rows.one_request(1, "r", "t", 1.0), {}, {}, timings)
    context.result = InferenceResult(Entry.of(load(FLIGHTS)), batch, (), (), 0.001, 0.006)


def test_each_span_names_who_did_the_work_whatever_a_stage_is_called() -> None:
    context = begin("Predict", {}, 0.0, 0.0)
    timings = [
        Timing("router", "router", 100, 2000, 8),
        Timing("router/Transform", "preprocessing", 300, 1500, 8),
        Timing("Infer", "router", 2200, 800, 8),
        Timing("Infer/run", "executor", 2300, 600, 8),
    ]
    answer(context, timings)
    spans = record(context, 1_000_000, 8000)["spans"]
    by_id = {s["span_id"]: s for s in spans}

    def path(span: dict[str, Any]) -> str:
        parent = by_id.get(span["parent_id"])
        return (path(parent) + " > " if parent else "") + f"{span['name']}@{span['service']}"

    assert {path(span) for span in spans} == {
        "Predict@ingress",
        "Predict@ingress > Infer@router",
        "Predict@ingress > Infer@router > router@router",
        "Predict@ingress > Infer@router > router@router > Transform@preprocessing",
        "Predict@ingress > Infer@router > Infer@router",
        "Predict@ingress > Infer@router > Infer@router > run@executor",
    }


def exported(context: RequestContext, timings: list[Timing]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Service, kind, name and attributes of each span that a collector gets of a request."""
    answer(context, timings)
    trace = record(context, 1_000_000, 8000)
    with Collector.running() as collector:
        OtlpExporter(f"http://127.0.0.1:{collector.port}").write([trace])
        spans = collector.of(trace["trace_id"])
    assert len({s.span for s in spans}) == len(spans)
    return [(s.service, s.kind, s.name.rpartition("/")[2], s.attributes) for s in spans]


def test_a_cascade_is_no_hop_but_its_models_are() -> None:
    timings = [
        Timing("choice", "router", 100, 2000, 8),
        Timing("choice/light", "executor", 110, 400, 8, {"model.name": "quick"}),
        Timing("choice/light/run", "executor", 120, 300, 8),
        Timing("choice/heavy", "executor", 600, 900, 8, {"error": "UNREACHABLE"}),
    ]
    spans = exported(begin("Predict", {}, 0.0, 0.0), timings)
    execute = [("router", "CLIENT", "Execute"), ("executor", "SERVER", "Execute")]
    assert sorted(span[:3] for span in spans) == sorted(
        [
            ("ingress", "SERVER", "Predict"),
            ("ingress", "CLIENT", "Infer"),
            ("router", "SERVER", "Infer"),
            ("router", "INTERNAL", "choice"),
            *execute,
            execute[0],  # of the heavy model: nobody knows whether the call reached it
            ("executor", "INTERNAL", "run"),
        ]
    )
    calls = [about for *span, about in spans if span[1:] == ["CLIENT", "Execute"]]
    codes = {about["headrace.stage"]: about["rpc.grpc.status_code"] for about in calls}
    assert codes == {"light": 0, "heavy": 2}


@pytest.mark.parametrize(
    ("path", "kind", "reason", "found"),
    [
        ("/inference.GRPCInferenceService/ModelInfer", b"application/grpc+proto", "", (200, 0, "")),
        ("/inference.GRPCInferenceService/ModelInfer", b"application/grpc", "INTERNAL", (200, 13, "")),
        ("/inference.GRPCInferenceService/ModelInfer", b"application/json", "INTERNAL", (500, 13, "")),
        ("/v2/models/a/infer", b"", "INTERNAL", (500, None, "/v2/models/{model}/infer")),
        (
            "/v2/models/a/versions/7/infer",
            b"",
            "",
            (200, None, "/v2/models/{model}/versions/{version}/infer"),
        ),
    ],
)
def test_the_doors_span_says_the_request_as_http_has_it(
    path: str, kind: bytes, reason: str, found: tuple[int, int | None, str]
) -> None:
    context = begin("ModelInfer", {b"content-type": kind} if kind else {}, 0.0, 0.0)
    context.path = path
    if reason:
        context.fault = Fault(Code.INTERNAL, Reason.REASON_INTERNAL, "no")
    [(_, span_kind, _, about)] = [span for span in exported(context, []) if "url.path" in span[3]]
    assert (span_kind, about["http.request.method"], about["url.path"]) == ("SERVER", "POST", path)
    status, route = about["http.response.status_code"], about.get("http.route", "")
    assert (status, about.get("rpc.grpc.status_code"), route) == found


def test_the_store_is_bounded_and_has_the_newest_traces(tmp_path: Path) -> None:
    """What full disks and other processes do to its files: test_ingress_security.py."""
    for i in range(500):
        SpanStore(tmp_path, 2000, 2).write([{"request_id": str(i), "trace_id": "", "spans": []}])
    files = list(tmp_path.glob(f"{FILE}*"))
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) <= 3 * 2100
    kept = [find(tmp_path, str(i)) is not None for i in range(500)]
    assert 50 < sum(kept) < 500
    assert kept == sorted(kept)

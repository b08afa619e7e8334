"""Whose fault each failure is: what counts against availability, and what latency is measured by."""

from dataclasses import replace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, RowError, Rows
from headrace.hop.errors import BLAME, Code, Fault, Reason, reason_of
from services.ingress.inference import InferenceResult
from services.ingress.reporting.metrics import Metrics, Shed
from services.ingress.request_context import RequestContext, begin

# Some of each; that all are decided: see below.
OURS = [
    "UNSPECIFIED",
    "OVERLOADED",
    "FEATURE_UNAVAILABLE",
    "MODEL_UNKNOWN",
    "IDEMPOTENCY_UNAVAILABLE",
    "DEADLINE_PASSED",
]
CALLERS = [
    "MALFORMED_REQUEST",
    "CANCELLED",
    "PIPELINE_UNKNOWN",
    "CREDENTIAL_INVALID",
    "QUOTA_EXCEEDED",
    "RELEASE_STALE",
]
# The code that the door gives with a reason, where it says more than "you may not" or "not now".
CODES = {
    "DEADLINE_PASSED": Code.DEADLINE_EXCEEDED,
    "CANCELLED": Code.CANCELLED,
    "OVERLOADED": Code.RESOURCE_EXHAUSTED,
    "QUOTA_EXCEEDED": Code.RESOURCE_EXHAUSTED,
    "MODEL_UNKNOWN": Code.NOT_FOUND,
}


def finished(
    reason: str, code: Code | None = None, *, inference: bool = True, our_time: bool = True
) -> RequestContext:
    context = begin("ModelInfer", {}, 0.0, 0.0)
    context.inference, context.deadline_is_ours, context.pipeline = inference, our_time, "p"
    code = code or CODES.get(reason, Code.FAILED_PRECONDITION)
    context.fault = Fault(code, reason_of(reason), "said")
    return context


def fault_of(context: RequestContext) -> str:
    registry = CollectorRegistry()
    assert context.fault is not None
    Metrics(registry).done(context, context.fault.code, 0.1)
    [family] = [f for f in registry.collect() if f.name == "headrace_ingress_requests"]
    [sample] = [s for s in family.samples if s.name.endswith("_total")]
    return sample.labels["fault"]


def test_every_reason_is_decided() -> None:
    assert set(BLAME) == set(Reason.values())


@pytest.mark.parametrize("reason", OURS + CALLERS)
def test_whose_fault_a_reason_is(reason: str) -> None:
    assert fault_of(finished(reason)) == ("ours" if reason in OURS else "caller")


def test_time_that_the_caller_set_is_its_own() -> None:
    assert fault_of(finished("DEADLINE_PASSED", our_time=False)) == "caller"


@pytest.mark.parametrize("reason", ["MODEL_UNKNOWN", "MODEL_UNTRUSTED", "MODEL_UNUSABLE"])
def test_models_that_operators_name_are_their_mistake(reason: str) -> None:
    assert fault_of(finished(reason, inference=False)) == "caller"


@pytest.mark.parametrize("code", [Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS])
def test_some_codes_are_ours_whatever_the_reason(code: Code) -> None:
    assert fault_of(finished("INPUT_RANGE", code)) == "ours"


def test_a_reason_that_only_newer_services_know_is_ours() -> None:
    context = finished("INTERNAL")
    context.fault = Fault(Code.FAILED_PRECONDITION, cast("Reason", 4711), "new")
    assert fault_of(context) == "ours"


def test_what_envoy_refused_bears_the_fault_of_what_it_repeated() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.shed("acme", Shed(7, Reason.REASON_OVERLOADED))
    metrics.shed("acme", Shed(3, Reason.REASON_QUOTA_EXCEEDED))

    def value(name: str, fault: str, **more: str) -> float | None:
        return registry.get_sample_value(name, {"tenant": "acme", "fault": fault, **more})

    for fault, calls in (("ours", 7), ("caller", 3)):
        assert value("headrace_ingress_shed_total", fault) == calls
        labels = {"pipeline": "", "code": "RESOURCE_EXHAUSTED"}
        assert value("headrace_ingress_requests_total", fault, **labels) == calls


def test_latency_has_every_inference_by_its_outcome() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    ended = {
        "ok": (None, Code.OK),
        "ours": ("OVERLOADED", Code.RESOURCE_EXHAUSTED),
        "caller": ("INPUT_RANGE", Code.INVALID_ARGUMENT),
        "gave_up": ("CANCELLED", Code.CANCELLED),
    }
    for reason, code in ended.values():
        context = finished(reason or "INTERNAL", code)
        if reason is None:
            context.fault = None
        metrics.done(context, code, 0.2)
    metrics.done(finished("DEADLINE_PASSED", our_time=False), Code.DEADLINE_EXCEEDED, 0.7)
    metrics.done(finished("DEADLINE_PASSED"), Code.DEADLINE_EXCEEDED, 0.7)
    metrics.done(finished("INPUT_RANGE", inference=False), Code.INVALID_ARGUMENT, 0.7)

    def count(outcome: str) -> float | None:
        return registry.get_sample_value(
            "headrace_request_seconds_count", {"pipeline": "p", "outcome": outcome}
        )

    assert {o: count(o) for o in ended} == {"ok": 1, "ours": 2, "caller": 1, "gave_up": 2}
    quick = registry.get_sample_value(
        "headrace_request_seconds_bucket", {"pipeline": "p", "outcome": "gave_up", "le": "0.5"}
    )
    assert quick == 1


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ({}, "ok"),
        ({1: RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "too large")}, "ok"),
        ({0: RowError(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "no connection")}, "ours"),
    ],
)
def test_an_answer_without_a_row_by_our_fault_is_ours(errors: dict[int, RowError], outcome: str) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    rows = Rows(["r"] * 2, ["acme"] * 2, [1] * 2, [0.0] * 2, [""] * 2)
    context = finished("INTERNAL", Code.INTERNAL)
    context.fault = None
    batch = replace(Batch.of(rows, []), errors=errors)
    context.result = InferenceResult(cast("Any", None), batch, [], [], 0.0, 0.0)
    metrics.done(context, Code.OK, 0.2)
    labels = {"pipeline": "p", "outcome": outcome}
    assert registry.get_sample_value("headrace_request_seconds_count", labels) == 1
    told = {"pipeline": "p", "tenant": "", "code": "OK", "fault": "none" if outcome == "ok" else "ours"}
    assert registry.get_sample_value("headrace_ingress_requests_total", told) == 1

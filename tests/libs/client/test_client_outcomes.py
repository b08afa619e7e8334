"""The SDK reports outcomes: what it sends, in which parts, and what it refuses to send.
Idempotency keys are sent as they are given, with each try of a call.
Whose trace a call belongs to: the caller's span, or what the caller says."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client import AsyncHeadrace, Headrace, Outcome, OutcomeCounts
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness
from tests.libs.client.client_server import Inference, unavailable

TRACER = TracerProvider().get_tracer("a backend")
GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_labels_numbers_and_times_are_sent(client: AsyncHeadrace, inference: Inference) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)
    outcomes = [
        Outcome("r", "late", False),
        Outcome("r", "revenue", 2.5, row=3, time=when),
        Outcome("r", "n", 4),
    ]
    assert await client.record_outcomes(outcomes) == OutcomeCounts(3, 0)
    assert await client.record_outcomes([]) == OutcomeCounts(0, 0)
    [[label, number, whole]] = inference.outcomes
    assert label == pb.Outcome(request_id="r", name="late", label=False)
    assert number == pb.Outcome(request_id="r", row=3, name="revenue", number=2.5, time=when)
    assert whole == pb.Outcome(request_id="r", name="n", number=4.0)


async def test_many_go_a_thousand_a_call_and_a_call_is_tried_again(
    client: AsyncHeadrace, inference: Inference
) -> None:
    inference.script = [unavailable()]
    counts = await client.record_outcomes(Outcome(str(i), "late", i > 1998) for i in range(2500))
    assert counts == OutcomeCounts(2500, 501)
    assert [len(call) for call in inference.outcomes] == [1000, 1000, 500]


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"time": datetime(2026, 1, 1)}, ValueError), ({"value": "yes"}, TypeError), ({"row": -1}, ValueError)],
)
async def test_what_cannot_be_sent_is_refused_here(
    client: AsyncHeadrace, inference: Inference, fields: dict[str, Any], error: type[Exception]
) -> None:
    values: dict[str, Any] = {"request_id": "r", "name": "late", "value": True, **fields}
    with pytest.raises(error):
        await client.record_outcomes([Outcome(**values)])
    assert inference.outcomes == []


async def test_a_key_goes_with_each_try_and_only_where_it_is_given(
    client: AsyncHeadrace, inference: Inference
) -> None:
    inference.script.append(Fault(Code.UNAVAILABLE, Reason.REASON_OVERLOADED, "busy", retry_after_s=0.0))
    await client.predict("flights", {"x": 1}, idempotency_key="once")
    await client.predict_columns("flights", {"x": [1.0]}, idempotency_key="columns")
    await client.predict("flights", {"x": 1})
    assert inference.idempotency_keys == ["once", "once", "columns", None]
    # No span, no header.
    assert inference.traces == [""] * 4


def of(span: trace.Span) -> str:
    """The traceparent of a span."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


async def test_the_current_span_goes_along_unless_the_caller_says_otherwise(
    client: AsyncHeadrace, inference: Inference
) -> None:
    with TRACER.start_as_current_span("checkout") as span:
        await client.predict("flights", {"x": 1})
        await client.predict_columns("flights", {"x": np.array([1, 2], "f4")})
        await client.predict("flights", {"x": 1}, traceparent=GIVEN)
    assert inference.traces == [of(span), of(span), GIVEN]


async def test_a_blocking_client_sends_outcomes_key_and_current_span_too(
    server: Harness, inference: Inference
) -> None:
    # The call is made on the client's own thread, where that span is not current.
    def call() -> str:
        with Headrace(server.target) as client, TRACER.start_as_current_span("checkout") as span:
            client.predict("flights", {"x": 1}, idempotency_key="once")
            assert client.record_outcomes([Outcome("r", "late", True)]).stored == 1
            return of(span)

    assert [await asyncio.to_thread(call)] == inference.traces
    assert inference.idempotency_keys == ["once"]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        GIVEN.upper(),
        GIVEN + "\n",
        GIVEN.replace("00-", "01-", 1),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    ],
)
async def test_what_is_no_traceparent_is_refused(
    client: AsyncHeadrace, inference: Inference, bad: str
) -> None:
    with pytest.raises(ValueError, match="is no traceparent"):
        await client.predict("flights", {"x": 1}, traceparent=bad)
    assert inference.traces == []

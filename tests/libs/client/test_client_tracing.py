"""Whose trace a call belongs to: the caller's span, or what the caller says."""

import asyncio

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from headrace.client import AsyncHeadrace, Headrace
from headrace.hop.testing import Harness
from tests.libs.client.client_server import Inference

TRACER = TracerProvider().get_tracer("a backend")
GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def of(span: trace.Span) -> str:
    """The traceparent of a span."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


async def test_no_span_no_header(client: AsyncHeadrace, inference: Inference) -> None:
    await client.predict("flights", {"x": 1})
    assert inference.traces == [""]


async def test_the_current_span_goes_along(client: AsyncHeadrace, inference: Inference) -> None:
    with TRACER.start_as_current_span("checkout") as span:
        await client.predict("flights", {"x": 1})
        await client.predict_columns("flights", {"x": np.array([1, 2], "f4")})
    assert inference.traces == [of(span)] * 2


async def test_the_current_span_of_a_blocking_caller_goes_along(
    server: Harness, inference: Inference
) -> None:
    # The call is made on the client's own thread, where that span is not current.
    def call() -> str:
        with Headrace(server.target) as client, TRACER.start_as_current_span("checkout") as span:
            client.predict("flights", {"x": 1})
            return of(span)

    assert [await asyncio.to_thread(call)] == inference.traces


async def test_what_the_caller_says_goes_before_the_span(client: AsyncHeadrace, inference: Inference) -> None:
    with TRACER.start_as_current_span("checkout"):
        await client.predict("flights", {"x": 1}, traceparent=GIVEN)
    assert inference.traces == [GIVEN]


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

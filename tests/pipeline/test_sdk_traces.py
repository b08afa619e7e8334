"""The SDK through the real door: a call's spans hang under the span that the caller was in."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from headrace.cli.installation import layout
from headrace.client import Headrace, PredictResult
from headrace.state import traces
from tests.system import HOME, System, poll

TRACER = TracerProvider().get_tracer("an app backend")


@pytest.fixture
def client(system: System) -> Iterator[Headrace]:
    with Headrace(system.endpoints["grpc"], key=system.key) as client:
        yield client


def stored(result: PredictResult) -> dict[str, Any]:
    """The trace that the door keeps of a request."""
    return poll("the trace is stored", lambda: traces.find(layout.of(HOME).traces, result.request_id))


def test_a_call_is_part_of_the_callers_trace(system: System, client: Headrace) -> None:
    with TRACER.start_as_current_span("checkout") as span:
        result = client.predict("flights", system.rows[0])
    own = span.get_span_context()
    assert result.trace_id == f"{own.trace_id:032x}"
    trace = stored(result)
    assert trace["trace_id"] == result.trace_id
    [door] = [s for s in trace["spans"] if s["service"] == "ingress"]
    assert door["parent_id"] == f"{own.span_id:016x}"


def test_a_traceparent_of_the_callers_own(system: System, client: Headrace) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    columns = {name: [system.rows[0][name]] for name in system.rows[0]}
    result = client.predict_columns("flights", columns, traceparent=given)
    assert result.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    without = client.predict_columns("flights", columns)
    assert without.trace_id not in ("", result.trace_id)

"""Requests with too little time: an answer at once, and no model runs for them."""

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.gauges import busy, samples
from tests.pipeline.refusals import failure, oip_request
from tests.posting import post_json
from tests.system import PREDICT, System, poll, row_request

LATE = grpc.StatusCode.DEADLINE_EXCEEDED


def ran(system: System) -> float:
    """Rows that models have run for, all together."""
    owner = "ingress" if system.shape == "together" else "executor"
    return sum(value for _, value in samples(system, "headrace_executor_batch_rows_sum", [owner]))


def by_header(system: System) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        system.predict(row_request(system.rows[0]), timeout=0.0003)
    error: Any = caught.value
    assert error.code() is LATE


def by_parameter(system: System) -> None:
    request = oip_request(system.rows[0])
    request.parameters["timeout"].int64_param = 500
    code, reason, message, metadata = failure(system.infer, request)
    assert (code, reason) == (LATE, "DEADLINE_PASSED")
    assert f"{metadata['remaining_ms']} ms are left" in message


def over_http(system: System) -> None:
    body = {"pipeline": "flights", "rows": [system.rows[0]]}
    status, reply = post_json(system, PREDICT, body, connect_timeout_ms="0")
    assert (status, reply["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("ask", [by_header, by_parameter, over_http])
def test_a_deadline_too_short_to_try(system: System, ask: Callable[[System], None]) -> None:
    system.predict(row_request(system.rows[0]))
    poll("nobody is served", lambda: not busy(system))
    before = ran(system)
    assert before > 0
    began = time.monotonic()
    for _ in range(20):
        ask(system)
    # One that waited for its pipeline's time would take that alone 30 s.
    assert time.monotonic() - began < 60
    assert ran(system) == before

"""Requests with too little time: an answer at once, and no model runs for them."""

import grpc

from tests.gauges import busy, samples
from tests.pipeline.refusals import failure, oip_request
from tests.system import System, poll, row_request


def ran(system: System) -> float:
    """Rows that models have run for, all together."""
    owner = "ingress" if system.shape == "together" else "executor"
    return sum(value for _, value in samples(system, "headrace_executor_batch_rows_sum", [owner]))


def test_a_deadline_too_short_to_try(system: System) -> None:
    system.predict(row_request(system.rows[0]))
    poll("nobody is served", lambda: not busy(system))
    before = ran(system)
    assert before > 0
    request = oip_request(system.rows[0])
    request.parameters["timeout"].int64_param = 500
    for _ in range(20):
        code, reason, message, metadata = failure(system.infer, request)
        assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED")
        assert f"{metadata['remaining_ms']} ms are left" in message
    assert ran(system) == before

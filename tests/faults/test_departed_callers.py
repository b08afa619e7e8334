"""Callers that hang up while a service hangs: what waits for them is taken out of every queue at once."""

import asyncio
import os
import signal
from typing import Any

import grpc

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.gauges import busy, cancelled
from tests.stopped import stop
from tests.system import PREDICT, System, poll, row_request

CALLS = 100


async def hang_up(system: System, after_s: float) -> None:
    """Begins the calls and closes their connection."""
    async with grpc.aio.insecure_channel(
        system.endpoints["grpc"], options=[("grpc.enable_retries", 0)]
    ) as channel:
        method: Any = channel.unary_unary(
            PREDICT, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString
        )
        calls = [method(row_request(system.rows[i]), metadata=system.auth()) for i in range(CALLS)]
        await asyncio.sleep(after_s)
        await channel.close(None)
        assert not [call for call in calls if call.done() and not call.cancelled()]


def served(system: System) -> bool:
    """Whether a prediction comes; callers of what hung give it a rest at first."""
    try:
        return len(system.predict(row_request(system.rows[0])).predictions) == 1
    except grpc.RpcError:
        return False


def test_callers_of_a_service_that_hangs(system: System) -> None:
    pid = system.pid("executor")
    assert pid is not None
    poll("nobody is served", lambda: not busy(system))
    before = cancelled(system)
    stop(pid)
    try:
        # Less than the second that a request of the pipeline is given.
        asyncio.run(hang_up(system, 0.4))
        poll("all are counted", lambda: cancelled(system) - before == CALLS)
    finally:
        os.kill(pid, signal.SIGCONT)
    poll("nobody is served any more", lambda: not busy(system))
    poll("predictions come", lambda: served(system))

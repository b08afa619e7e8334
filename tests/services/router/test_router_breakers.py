"""Whose breaker opens when rows fail: the one towards the service that failed them, and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.columns import Batch, RowError
from headrace.columns.batch_codec import BatchCall
from headrace.hop.errors import Code, Reason
from tests.services.router.router_leaves import SCORED, Suite, batch_of, suite

# The breaker that the door has towards the router: it opens at the slightest cause.
TOUCHY = {"min_calls": 2, "window_s": 60.0, "open_s": 30.0, "max_open_s": 30.0, "failure_ratio": 0.1}
CALLS = 40


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Suite]:
    async with suite(tmp_path, {"scored": SCORED}) as started:
        yield started


async def reasons(running: Suite, code: Code, reason: Reason) -> list[Reason]:
    """Why the rows of many calls failed, when the executor answers each call and fails each row in this way."""

    async def fail(batch: Batch) -> Batch:
        error = RowError(code, reason, "as asked", "executor")
        return Batch(batch.rows, {}, dict.fromkeys(range(len(batch)), error))

    running.executor.hook = fail
    infer = running.infer(breaker=TOUCHY)
    found: list[Reason] = []
    for _ in range(CALLS):
        reply = await infer(BatchCall(("scored", 0), batch_of(["a", "b"], [1.0, 2.0])))
        assert {(len(reply.batch.errors), e.stage) for e in reply.batch.errors.values()} == {(2, "sum")}
        found.append(reply.batch.errors[0].reason)
    return found


def state(running: Suite, callee: str) -> float | None:
    """Of the breaker towards `callee`: 0 closed, 1 half open, 2 open."""
    return running.sample("hop_breaker_state", callee=callee, replica="0")


async def test_rows_that_the_executor_fails_open_the_breaker_towards_it_alone(running: Suite) -> None:
    found = await reasons(running, Code.UNAVAILABLE, Reason.REASON_MODEL_FAILED)
    assert found[0] == Reason.REASON_MODEL_FAILED
    assert Reason.REASON_BREAKER_OPEN in found
    assert len(running.executor.calls) < CALLS
    assert state(running, "router") == 0


# Else a model that fails would stop all others of the executor.
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(Code.INTERNAL, Reason.REASON_MODEL_FAILED, id="one-model"),
        pytest.param(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, id="too-little-time"),
    ],
)
async def test_failures_of_a_model_or_of_time_open_none(running: Suite, code: Code, reason: Reason) -> None:
    assert set(await reasons(running, code, reason)) == {reason}
    assert len(running.executor.calls) == CALLS
    assert state(running, "executor") == state(running, "router") == 0

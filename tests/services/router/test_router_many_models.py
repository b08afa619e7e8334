"""Cascades and ensembles in a running router, with an executor behind it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from headrace.columns import Batch, Column, RowError
from headrace.columns.batch_codec import BatchCall
from headrace.hop.errors import Code, Fault, Reason
from tests.services.router.router_leaves import HEAD, Hook, Suite, batch_of, suite

CASCADE = f"""pipeline: cascade
{HEAD}
stages:
  - cascade: score
    light: {{name: small, inputs: {{numbers: x}}, outputs: {{total: {{column: y, type: float32}}}}}}
    heavy: {{name: large, inputs: {{numbers: x}}, outputs: {{total: {{column: y, type: float32}}}}}}
    score: y
    decision: 0.5
    threshold: 0.2
outputs: [y]
"""
HURRIED = CASCADE.replace("pipeline: cascade", "pipeline: hurried").replace(
    "heavy: {name: large,", "heavy: {name: large, budget_ms: 20,"
)
ENSEMBLE = f"""pipeline: ensemble
{HEAD}
stages:
  - ensemble: score
    members:
      one: {{name: small, inputs: {{numbers: x}}, output: total, required: true}}
      two: {{name: large, inputs: {{numbers: x}}, output: total}}
    combine: mean
    into: {{column: y, type: float32}}
outputs: [y]
"""
CALLS = 40


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Suite]:
    async with suite(tmp_path, {"cascade": CASCADE, "hurried": HURRIED, "ensemble": ENSEMBLE}) as started:
        started.executor.models["large"] = plus_ten
        yield started


async def plus_ten(batch: Batch) -> Batch:
    return Batch(batch.rows, {"total": Column.of("total", batch.columns["numbers"].array + np.float32(10))})


async def failed_rows(batch: Batch) -> Batch:
    error = RowError(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "as asked", "executor")
    return Batch(batch.rows, {}, dict.fromkeys(range(len(batch)), error))


async def not_loaded(batch: Batch) -> Batch:
    raise Fault(Code.NOT_FOUND, Reason.REASON_MODEL_UNKNOWN, "not loaded")


async def never(batch: Batch) -> Batch:
    await asyncio.Event().wait()
    return batch


LIGHT = "cascade/score:light"


@pytest.mark.parametrize(
    ("pipeline", "hook", "xs", "fallback", "bits"),
    [
        ("cascade", failed_rows, [0.5, 1.0], LIGHT, [1, 0]),
        ("cascade", not_loaded, [0.5, 1.0], LIGHT, [1, 0]),
        # Nor do calls that the stage ends open the breaker: they say nothing of the replica.
        ("hurried", never, [0.5], LIGHT, [1]),
        ("ensemble", failed_rows, [4.0], "ensemble/score:two", [1]),
        ("ensemble", not_loaded, [4.0], "ensemble/score:two", [1]),
    ],
)
async def test_a_model_that_never_helps_stops_no_row(
    running: Suite, pipeline: str, hook: Hook, xs: list[float], fallback: str, bits: list[int]
) -> None:
    running.executor.models["large"] = hook
    infer = running.infer()
    for _ in range(CALLS):
        reply = await infer(BatchCall((pipeline, 0), batch_of(["a"] * len(xs), xs, budget_s=60.0)))
        assert not reply.batch.errors
        assert reply.batch.columns["y"].array.tolist() == xs
        assert list(reply.response.fallbacks) == [fallback]
        assert reply.batch.columns["@fallbacks"].array.tolist() == bits
    assert running.sample("hop_breaker_state", callee="executor", replica="0") == 0
    assert running.sample("router_fallback_rows_total", pipeline=pipeline, fallback=fallback) == CALLS
    asked = running.sample("router_member_rows_total", pipeline=pipeline, stage="score", member="small")
    assert asked == CALLS * len(xs)

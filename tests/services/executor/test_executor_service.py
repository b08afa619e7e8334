"""The executor as its callers see it: real models, real sockets."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.columns import Batch, Column, DType, RowError, decode
from headrace.hop.errors import Code, Fault, Reason
from headrace.repository import TensorSpec
from tests.services.executor.executor_caller import (
    batch,
    calling,
    codes,
    numbers,
    quarantined,
    refusal,
    rows,
    xs,
    ys,
)
from tests.services.executor.executor_models import X, Y, doubling, put, put_lookup, slow
from tests.services.waiting import until

TRANSPORTS = pytest.mark.parametrize("transport", ["unix", "local"])
SLOW_ROUNDS = 10_000  # some 100 ms


@TRANSPORTS
async def test_outputs_come_back_in_order_with_what_ran(models: Path, transport: Any) -> None:
    about = put(models)
    async with calling(models, transport) as caller:
        reply = await caller.raw(batch(1.0, 2.0, 3.0))

        result = decode(reply.batch)
        assert ys(result) == [2.0, 4.0, 6.0]
        assert result.errors == {}
        assert (reply.version, reply.sha256, reply.backend) == ("1", about.sha256, "onnxruntime")
        assert [(t.stage, t.service, t.row_count) for t in result.timings] == [
            ("queue", "executor", 3),
            ("run", "executor", 3),
        ]
        assert result.timings[1].attributes == {"model.version": "1", "backend": "onnxruntime"}
        assert result.timings[1].start_us == result.timings[0].duration_us
        assert caller.metric("rows_total", model="double", code="OK") == 3
        assert caller.metric("run_seconds_count", model="double") == 1
        assert caller.metric("queue_rows", model="double") == 0


async def test_models_are_warm_and_listed_before_the_first_call(models: Path) -> None:
    put(models)
    put(models, version="10")
    put(models, version="9")
    put_lookup(models)
    async with calling(models) as caller:
        assert caller.metric("cold_starts_total", model="double", version="10", why="start") == 1
        listed = await caller.models()
        assert [(m.name, m.version) for m in listed] == [("double", "10"), ("lookup", "1")]
        [output] = listed[1].outputs
        assert (output.name, output.data_type, list(output.row_shape)) == ("y", DType.FLOAT32, [2])

        assert (await caller.raw(batch(1.0))).version == "10"


WRONG = {
    "missing": ([Column.of("z", np.zeros((1, 3), np.float32))], Reason.REASON_INPUT_MISSING, "x"),
    "unknown": ([xs(1.0), Column.of("z", np.zeros(1))], Reason.REASON_INPUT_UNKNOWN, "z"),
    "dtype": ([Column.of("x", np.zeros((1, 3)))], Reason.REASON_INPUT_DTYPE, "x"),
    "shape": ([Column.of("x", np.zeros((1, 4), np.float32))], Reason.REASON_INPUT_SHAPE, "x"),
    "bytes": ([Column.of_text("x", ["1"])], Reason.REASON_INPUT_DTYPE, "x"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_wrong_inputs_name_the_tensor(models: Path, case: str) -> None:
    columns, reason, name = WRONG[case]
    put(models)
    async with calling(models) as caller:
        with pytest.raises(Fault, match=f"input '{name}'") as caught:
            await caller(Batch.of(rows(1), columns))
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, reason)
    assert caught.value.metadata["input"] == name


async def test_annotations_pass_and_rows_that_cannot_run_have_their_error(models: Path) -> None:
    put(models)
    x = Column.of("x", np.ones((4, 3), np.float32), np.array([True, False, True, True]))
    earlier = RowError(Code.NOT_FOUND, Reason.REASON_FEATURE_UNAVAILABLE, "no such plane", "store")
    given = Batch.of(rows(4), [x, Column.of("@age_us/planes", np.zeros(4, np.int64))]).with_errors(
        {3: earlier}
    )
    async with calling(models) as caller:
        result = await caller(given)

        assert ys(result)[0] == ys(result)[2] == 2.0
        assert set(result.errors) == {1, 3}
        assert codes([result.errors[1]]) == {(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING)}
        assert result.errors[3].reason == Reason.REASON_FEATURE_UNAVAILABLE
        assert caller.metric("batch_rows_sum", model="double") == 2
        # Nothing left to run is no reason to wait.
        assert set((await caller(given.slice(3, 4))).errors) == {0}


@pytest.mark.parametrize(
    ("transport", "loops", "settings", "most"),
    [("unix", 500, {}, 20), ("local", 500, {}, 20), ("unix", 1000, {"inline_us": 1_000_000}, 59)],
    ids=["unix", "local", "a short model, on the loop"],
)
async def test_concurrent_calls_share_runs(
    models: Path, transport: Any, loops: int, settings: dict[str, Any], most: int
) -> None:
    put(models, content=slow(loops))
    calls = 60
    async with calling(models, transport, **settings) as caller:
        results = await asyncio.gather(*(caller(batch(float(i), float(-i))) for i in range(calls)))

        assert [ys(r) for r in results] == [[float(i), float(-i)] for i in range(calls)]
        runs = caller.metric("run_seconds_count", model="double")
        assert 1 <= runs <= most
        assert caller.metric("batch_rows_sum", model="double") == 2 * calls


async def test_a_large_call_is_cut_and_put_together(models: Path) -> None:
    put(models)
    async with calling(models, overrides={"double": {"max_rows": 8, "instances": 2}}) as caller:
        result = await caller(batch(*map(float, range(30))))

        assert ys(result) == [2.0 * i for i in range(30)]
        assert caller.metric("run_seconds_count", model="double") == 4
        assert [t.row_count for t in result.timings if t.stage == "run"] == [8, 8, 8, 6]


async def test_rows_whose_time_is_up_never_run(models: Path) -> None:
    put(models)
    given = batch(1.0, 2.0, 3.0)
    given.rows.deadlines[1] = time.monotonic() - 1
    async with calling(models) as caller:
        result = await caller(given)

        assert codes(result.errors.values()) == {(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED)}
        assert set(result.errors) == {1}
        assert [ys(result)[0], ys(result)[2]] == [2.0, 6.0]
        assert caller.metric("batch_rows_sum", model="double") == 2
        assert caller.metric("rows_total", model="double", code="DEADLINE_EXCEEDED") == 1


async def test_rows_that_expire_in_the_queue_are_answered_while_the_model_is_busy(models: Path) -> None:
    put(models, content=slow(SLOW_ROUNDS))
    async with calling(models, warmup_rows=[1], inline_us=0) as caller:
        busy = asyncio.create_task(caller(batch(1.0)))
        await until(lambda: caller.metric("batch_rows_count", model="double") == 1)
        given = batch(1.0, 2.0)
        given.rows.deadlines[:] = [time.monotonic() + 0.01, time.monotonic() + 0.02]
        result = await caller(given)

        assert set(result.errors) == {0, 1}
        assert codes(result.errors.values()) == {(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED)}
        assert ys(await busy) == [1.0]
        assert caller.metric("batch_rows_sum", model="double") == 1


async def test_overload_sheds_the_lowest_priority(models: Path) -> None:
    put(models, content=slow(SLOW_ROUNDS))
    defaults = {"max_rows": 4, "max_queue_rows": 4}
    async with calling(models, warmup_rows=[1], inline_us=0, defaults=defaults) as caller:
        busy = asyncio.create_task(caller(batch(1.0)))
        await until(lambda: caller.metric("batch_rows_count", model="double") == 1)
        # In whatever order they arrive, the four that stay are the same.
        low, high, lowest = await asyncio.gather(
            caller(batch(2.0, 3.0, 4.0, priority=0)),
            caller(batch(5.0, 6.0, 7.0, priority=5)),
            caller(batch(8.0, priority=0, budget=19.0)),
            return_exceptions=True,
        )

        assert isinstance(lowest, Fault)
        assert (lowest.code, lowest.reason) == (Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED)
        assert "is full; try again in" in lowest.message
        assert (lowest.retry_after_s or 0) > 0
        assert ys(await busy) == [1.0]
        assert isinstance(high, Batch)
        assert high.errors == {}
        assert isinstance(low, Batch)
        assert codes(low.errors.values()) == {(Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED)}
        assert len(low.errors) == 2


async def test_a_bad_row_fails_alone_and_tells_nothing(models: Path) -> None:
    put_lookup(models, "double")
    async with calling(models) as caller:
        good, bad = numbers(3, 2, 1), numbers(0, 99, 1, 2)
        first, second = await asyncio.gather(caller(good), caller(bad))

        assert first.errors == {}
        assert ys(first) == [6.0, 4.0, 2.0]
        assert set(second.errors) == {1}
        assert [ys(second)[row] for row in (0, 2, 3)] == [0.0, 2.0, 4.0]
        assert codes(second.errors.values()) == {(Code.INTERNAL, Reason.REASON_MODEL_FAILED)}
        assert second.errors[1].message == "model 'double' version '1' failed on this row"
        assert ys(await caller(good)) == [6.0, 4.0, 2.0]


@pytest.mark.parametrize("inline_us", [0, 1_000_000])
async def test_good_requests_in_a_run_with_many_bad_ones_are_answered(models: Path, inline_us: int) -> None:
    put_lookup(models, "double")
    async with calling(models, inline_us=inline_us) as caller:
        await caller(numbers(0))
        # Callers of two rows each, which share runs; every second one asks for what the model does not have.
        results = await asyncio.gather(*(caller(numbers(*(2 * [2 if i % 2 else 99]))) for i in range(32)))
        assert [set(r.errors) for r in results] == [set() if i % 2 else {0, 1} for i in range(32)]
        assert {tuple(ys(r)) for r in results[1::2]} == {(4.0, 4.0)}


async def test_a_run_that_hangs_is_given_up_and_the_model_recovers(models: Path) -> None:
    put(models, content=slow(SLOW_ROUNDS))
    async with calling(models, warmup_rows=[1], inline_us=0, run_timeout_s=0.02) as caller:
        result = await caller(batch(1.0))

        assert codes(result.errors.values()) == {(Code.INTERNAL, Reason.REASON_MODEL_FAILED)}
        again = await caller(batch(1.0))
        assert codes(again.errors.values()) == {(Code.INTERNAL, Reason.REASON_MODEL_FAILED)}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            {"inputs": [TensorSpec("x", DType.FLOAT64, (3,))]},
            r"input x: float64\[3\] is declared, the artifact has x: float32\[3\]",
        ),
        ({"inputs": [TensorSpec("x", DType.FLOAT32, (4,))]}, r"input x: float32\[4\] is declared"),
        (
            {"inputs": [TensorSpec("input", DType.FLOAT32, (3,))]},
            r"input input is declared, the artifact has x; input x",
        ),
        ({"inputs": [X, TensorSpec("z", DType.INT8)]}, r"input z is declared, the artifact has x"),
        ({"outputs": [TensorSpec("score", DType.FLOAT32)]}, r"output score is declared, the artifact has y"),
        ({"outputs": [TensorSpec("y", DType.FLOAT32)]}, r"output y: float32\[\] is declared"),
        ({"content": b"garbage"}, r"ONNX Runtime can't load it"),
        (
            {"backend": "abacus"},
            r"backend 'abacus' is not built in; use one of: onnxruntime, remote, tensorrt",
        ),
    ],
)
async def test_a_misdescribed_model_is_in_quarantine(models: Path, spec: dict[str, Any], says: str) -> None:
    put(models, **spec)
    async with calling(models) as caller:
        assert re.search(says, (await quarantined(caller))["double:1"])
        assert (await refusal(caller)).reason == Reason.REASON_MODEL_UNUSABLE


async def test_a_model_built_for_a_fixed_number_of_rows(models: Path) -> None:
    put(models, content=doubling(rows=4))
    async with calling(models) as caller:
        result = await caller(batch(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
        assert ys(result) == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]


async def test_no_rows_is_an_answer(models: Path) -> None:
    put(models, outputs=[Y])
    async with calling(models) as caller:
        result = await caller(batch())
        assert len(result) == 0
        assert result.columns["y"].array.shape == (0, 3)

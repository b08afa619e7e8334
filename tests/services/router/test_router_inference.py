"""The router over sockets, with leaves that answer, fail, hang or talk nonsense; and whose breaker opens when rows fail:
the one towards the service that failed them, and no other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.api.router.v1 import router_pb2
from headrace.columns import Batch, RowError, encode
from headrace.columns.batch_codec import BatchCall
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.clients import INFER
from tests.services.router.router_leaves import (
    DEMANDING,
    SCORED,
    TWO_MODELS,
    Hook,
    Suite,
    batch_of,
    failing,
    features,
    suite,
    with_deadlines,
)

DOCUMENTS = {"scored": SCORED, "demanding": DEMANDING, "two": TWO_MODELS}
# The breaker that the door has towards the router: it opens at the slightest cause.
TOUCHY = {"min_calls": 2, "window_s": 60.0, "open_s": 30.0, "max_open_s": 30.0, "failure_ratio": 0.1}
CALLS = 40


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Suite]:
    async with suite(tmp_path, DOCUMENTS) as started:
        yield started


def values(batch: Batch, name: str) -> list[object]:
    found: list[object] = batch.columns[name].array.tolist()
    return found


async def test_a_batch_goes_through_all_stages(running: Suite) -> None:
    reply = await running.ask("scored", batch_of(["ab", "abc"], [1.0, -9.0]))
    assert values(reply.batch, "y") == [3.0, -6.0]
    assert values(reply.batch, "positive") == [True, False]
    assert values(reply.batch, "@age_us/user") == [1000, 1000]
    assert values(reply.batch, "@source/user") == [1, 1]
    assert values(reply.batch, "@fallbacks") == [0, 0]
    assert not reply.batch.errors
    assert list(reply.response.fallbacks) == []
    (decision,) = reply.response.decisions
    assert (decision.version, decision.route, len(decision.revision)) == (3, "live", 64)
    (model,) = decision.models
    assert (model.stage, model.model, model.version, model.sha256) == ("sum", "adder", "7", "ab" * 32)


async def test_timings_show_each_stage_and_its_callee(running: Suite) -> None:
    reply = await running.ask("scored", batch_of(["ab"], [1.0]))
    stages = [t.stage for t in reply.batch.timings]
    assert stages == [
        "store", "store/work", "prepare", "prepare/work", "sum", "sum/work", "finish", "finish/work",
    ]  # fmt: skip
    by_name = {t.stage: t for t in reply.batch.timings}
    outer, inner = by_name["sum"], by_name["sum/work"]
    assert outer.start_us <= inner.start_us
    assert inner.start_us + inner.duration_us <= outer.start_us + outer.duration_us
    assert (outer.service, inner.service, inner.duration_us) == ("executor", "leaf", 7)
    assert outer.attributes == {"model.name": "adder", "model.version": "7", "backend": "test"}
    assert by_name["prepare"].start_us >= outer.duration_us * 0 + by_name["store"].duration_us


async def test_steps_are_sent_in_full_only_to_a_callee_that_lacks_them(running: Suite) -> None:
    for _ in range(3):
        assert not (await running.ask("scored", batch_of(["ab"], [1.0]))).batch.errors
    assert len(running.preprocessing.known) == 1
    running.preprocessing.known.clear()
    assert not (await running.ask("scored", batch_of(["ab"], [1.0]))).batch.errors
    assert len(running.preprocessing.known) == 1


async def test_failed_rows_stay_out_and_the_others_go_on(running: Suite) -> None:
    batch = batch_of(["a", "bb", "ccc", "dddd"], [1.0, 2.0, 3.0, 4.0])
    early = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "x is wrong")

    async def refuse_second(sent: Batch) -> Batch:
        computed = {c.name: c for c in features(sent)}
        late = RowError(Code.NOT_FOUND, Reason.REASON_STEP_FAILED, "no")
        return Batch(sent.rows, computed, {1: late})

    running.features.hook = refuse_second
    reply = await running.ask("scored", batch.with_errors({0: early}))
    assert running.features.calls == [3]
    assert running.executor.calls == [2]
    assert set(reply.batch.errors) == {0, 2}
    assert reply.batch.errors[0].message == "x is wrong"
    assert (reply.batch.errors[2].code, reply.batch.errors[2].stage) == (Code.NOT_FOUND, "store")
    y = reply.batch.columns["y"].array
    assert (y[1], y[3]) == (4.0, 8.0)


async def test_independent_stages_run_at_the_same_time(running: Suite) -> None:
    met = asyncio.Barrier(2)

    async def meet(batch: Batch) -> None:
        async with asyncio.timeout(60):
            await met.wait()

    running.executor.models = {"left": meet, "right": meet}
    reply = await running.ask("two", batch_of(["a", "b"], [1.5, 2.0]))
    assert values(reply.batch, "c") == [3.0, 4.0]
    assert reply.batch.columns["key"].text() == ["a", "b"]
    assert {m.stage for m in reply.response.decisions[0].models} == {"left", "right"}


async def test_one_branch_fails_and_the_row_says_which(running: Suite) -> None:
    broken = failing(Code.INTERNAL, Reason.REASON_MODEL_FAILED, metadata={"model": "right"})
    running.executor.models = {"right": broken}
    reply = await running.ask("two", batch_of(["a"], [1.0]))
    error = reply.batch.errors[0]
    assert (error.code, error.reason, error.stage) == (Code.INTERNAL, Reason.REASON_MODEL_FAILED, "right")
    assert error.metadata["model"] == "right"
    assert running.postprocessing.calls == []


async def test_expired_rows_are_dropped_before_the_next_stage(running: Suite) -> None:
    loop = asyncio.get_running_loop()
    batch = batch_of(["a", "bb"], [1.0, 2.0])
    first_end = loop.time() + 0.12
    batch = with_deadlines(batch, [first_end, first_end + 10])

    async def slow(sent: Batch) -> None:
        while loop.time() < first_end + 0.02:
            await asyncio.sleep(0.005)

    running.preprocessing.hook = slow
    reply = await running.ask("scored", batch)
    assert running.executor.calls == [1]
    assert set(reply.batch.errors) == {0}
    error = reply.batch.errors[0]
    assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED)
    assert reply.batch.columns["y"].array[1] == 4.0


async def test_a_demanded_view_refuses_the_row(running: Suite) -> None:
    reply = await running.ask("demanding", batch_of(["ab", "?"], [1.0, 1.0]))
    error = reply.batch.errors[1]
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE)
    assert error.stage == "store"
    assert error.metadata == {"view": "user", "source": "not_found"}
    assert running.executor.calls == [1]
    assert reply.batch.columns["y"].array[0] == 3.0
    assert list(reply.response.fallbacks) == []


async def nonsense(sent: Batch) -> Batch:
    return Batch(sent.rows, {})


DOWN = [Code.UNAVAILABLE, Code.INTERNAL, Code.RESOURCE_EXHAUSTED]


@pytest.mark.parametrize("hook", [nonsense, *(failing(code, Reason.REASON_UNREACHABLE) for code in DOWN)])
async def test_features_down_means_defaults(running: Suite, hook: Hook) -> None:
    running.features.hook = hook
    reply = await running.ask("scored", batch_of(["ab", "abc"], [1.0, 2.0]))
    assert not reply.batch.errors
    assert values(reply.batch, "y") == [0.0, 1.0]
    assert list(reply.response.fallbacks) == ["features/user:default"]
    assert values(reply.batch, "@fallbacks") == [1, 1]
    assert values(reply.batch, "@source/user") == [5, 5]
    assert values(reply.batch, "@age_us/user") == [-1, -1]


async def test_features_that_hang_cost_only_their_share_of_the_time(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def hang(sent: Batch) -> None:
        await released.wait()

    async with suite(tmp_path, DOCUMENTS, features_timeout_s=0.15) as running:
        running.features.hook = hang
        reply = await running.ask("scored", batch_of(["ab"], [1.0], budget_s=60.0))
        released.set()
    assert not reply.batch.errors
    assert list(reply.response.fallbacks) == ["features/user:default"]
    attributes = reply.batch.timings[0].attributes
    assert attributes["fallback.code"] == "DEADLINE_EXCEEDED"


async def test_rows_that_features_could_not_answer_fall_back_alone(running: Suite) -> None:
    async def half(sent: Batch) -> Batch:
        late = RowError(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, "too late")
        return Batch(sent.rows, {c.name: c for c in features(sent)}, {0: late})

    running.features.hook = half
    reply = await running.ask("scored", batch_of(["ab", "abc"], [1.0, 1.0]))
    assert not reply.batch.errors
    assert values(reply.batch, "y") == [0.0, 4.0]
    assert values(reply.batch, "@fallbacks") == [1, 0]
    assert values(reply.batch, "@source/user") == [5, 1]


@pytest.mark.parametrize("what", ["no columns", "fewer rows", "another type"])
async def test_nonsense_of_the_executor_is_an_internal_error_of_its_stage(running: Suite, what: str) -> None:
    async def nonsense(sent: Batch) -> Batch:
        if what == "no columns":
            return Batch(sent.rows, {})
        wrong = replace(sent, columns={"total": sent.columns["numbers"].renamed("total")})
        return wrong.slice(0, 1) if what == "fewer rows" else wrong

    running.executor.hook = nonsense
    reply = await running.ask("scored", batch_of(["ab", "b"], [1.0, 2.0]))
    assert {e.code for e in reply.batch.errors.values()} == {Code.INTERNAL}
    assert len(reply.batch.errors) == 2
    # The answer has its columns in any case, so that the door can build a reply.
    assert len(reply.batch.columns["y"]) == 2


async def test_a_service_that_is_gone_fails_its_rows_with_unavailable(tmp_path: Path) -> None:
    nowhere = {"target": f"unix:{tmp_path}/nobody", "retry": {"attempts": 1}}
    (tmp_path / "p").mkdir()
    async with suite(tmp_path / "p", DOCUMENTS, executor=nowhere) as started:
        reply = await started.ask("scored", batch_of(["ab"], [1.0]))
        error = reply.batch.errors[0]
        assert (error.code, error.stage) == (Code.UNAVAILABLE, "sum")


async def test_an_unknown_pipeline_or_version_names_those_there_are(running: Suite) -> None:
    with pytest.raises(Fault) as unknown:
        await running.ask("scorred", batch_of(["a"], [1.0]))
    assert (unknown.value.code, unknown.value.reason) == (Code.NOT_FOUND, Reason.REASON_PIPELINE_UNKNOWN)
    assert unknown.value.metadata["known"] == "demanding, scored, two"
    with pytest.raises(Fault) as version:
        await running.ask("scored", batch_of(["a"], [1.0]), version=9)
    assert version.value.reason == Reason.REASON_VERSION_UNKNOWN
    assert version.value.metadata["known"] == "3"


async def test_a_batch_without_an_input_is_refused(running: Suite) -> None:
    with pytest.raises(Fault) as error:
        await running.ask("scored", batch_of(["a"], [1.0]).select(["x"]))
    assert (error.value.code, error.value.metadata["input"]) == (Code.INVALID_ARGUMENT, "key")


async def test_a_batch_without_rows_has_an_answer_without_rows(running: Suite) -> None:
    call = running.router.client().unary(INFER)
    empty = encode(batch_of(["a"], [1.0]).slice(0, 0))
    loop = asyncio.get_running_loop()
    reply = await call(router_pb2.InferRequest(pipeline="scored", batch=empty), deadline=loop.time() + 5)
    assert [c.name for c in reply.batch.columns] == ["y", "positive", "@fallbacks"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 7), min_size=1, max_size=12))
async def test_rows_keep_their_identity_in_shared_batches(running: Suite, sizes: list[int]) -> None:
    infer = running.infer(coalesce={"window": 1})
    calls = []
    for request, size in enumerate(sizes):
        keys = ["?" if row == 3 else "k" * (row + 1) for row in range(size)]
        xs = [request * 100.0 + row for row in range(size)]
        calls.append((keys, xs, batch_of(keys, xs, request_id=f"r{request}")))
    replies = await asyncio.gather(*(infer(BatchCall(("scored", 0), b)) for _, _, b in calls))
    for (keys, xs, batch), reply in zip(calls, replies, strict=True):
        expected = [x + (-1.0 if k == "?" else len(k)) for k, x in zip(keys, xs, strict=True)]
        assert values(reply.batch, "y") == expected
        assert values(reply.batch, "@fallbacks") == [int(k == "?") for k in keys]
        assert reply.batch.rows.request_ids == batch.rows.request_ids


async def test_metrics_count_rows_stages_and_fallbacks(running: Suite) -> None:
    early = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "x is wrong")
    await running.ask("scored", batch_of(["a", "?", "b"], [1.0, 2.0, 3.0]).with_errors({0: early}))
    read = running.sample
    assert read("router_rows_total", pipeline="scored", code="OK") == 2
    assert read("router_rows_total", pipeline="scored", code="INVALID_ARGUMENT") == 1
    assert read("router_fallback_rows_total", pipeline="scored", fallback="features/user:not_found") == 1
    assert read("router_stage_seconds_count", pipeline="scored", stage="sum") == 1


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

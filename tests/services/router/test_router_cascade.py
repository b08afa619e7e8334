"""A cascade stage: which rows go to the heavy model, and what stands when it can't answer; cascades and ensembles in a running
router, with an executor behind it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, RowError, Rows
from headrace.columns.batch_codec import BatchCall
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import CascadeStage, parse
from services.router.stages.cascade import CascadeRunner
from services.router.stages.runner import StageResult
from tests.services.router.router_leaves import HEAD, Hook, Suite, batch_of, suite
from tests.services.router.stage_results import Model, masks, values

DOCUMENT = """
pipeline: p
version: 1
deadline_ms: 1000
inputs: {x: float32, amount: {type: int64, required: false}}
stages:
  - cascade: score
    light: {name: small, inputs: {x: x}, outputs: {out: {column: p, type: float32}}}
    heavy: {name: large, inputs: {x: x}, outputs: {y: {column: p, type: float32}}}
    score: p
    decision: 0.5
    threshold: 0.2
    valuable: {amount: 1000}
outputs: [p]
"""


def stage(**changes: object) -> CascadeStage:
    [found] = parse(DOCUMENT, "p.yaml").stages
    assert isinstance(found, CascadeStage)
    return replace(found, **changes)  # type: ignore[arg-type]  # of fields of any type


def model(
    name: str, add: float = 0.0, fails: Mapping[float, Code] | None = None, fault: Fault | None = None
) -> Model:
    """Answers x + `add`; rows with x in `fails` fail."""
    errors = {x: RowError(code, Reason.REASON_MODEL_FAILED, "as asked") for x, code in (fails or {}).items()}
    return Model(name, lambda x: x + add, errors, fault)


def batch(xs: list[float], amounts: list[int | None] | None = None, budget_s: float = 60.0) -> Batch:
    rows = Rows.one_request(len(xs), "r", "t", time.monotonic() + budget_s)
    given_amounts = amounts or [0] * len(xs)
    valid = np.array([a is not None for a in given_amounts])
    values = np.array([a or 0 for a in given_amounts], np.int64)
    return Batch.of(rows, [Column.of("x", np.array(xs, np.float32)), Column.of("amount", values, valid)])


def asked(light: Model, heavy: Model, sent: Batch, **changes: object) -> StageResult:
    return asyncio.run(CascadeRunner(stage(**changes), light, heavy, time.monotonic).run(sent))


def answering_models(result: StageResult) -> list[int]:
    [column] = result.annotations
    assert column.name == "@models/score"
    return [int(v) for v in column.array.tolist()]


def test_a_sure_light_model_is_alone() -> None:
    heavy = model("large")
    result = asked(model("small"), heavy, batch([0.1, 0.9]))
    assert heavy.sizes == []
    assert [m.model for m in result.models] == ["small"]
    assert result.annotations == []
    assert result.asked == {"small": 2}


def test_valuable_rows_always_go_and_a_null_is_not_valuable() -> None:
    result = asked(model("small"), model("large", add=10), batch([0.1, 0.1, 0.1], [999, 1000, None]))
    assert values(result) == [0.1, 10.1, 0.1]


def test_a_score_that_is_no_number_is_unsure() -> None:
    result = asked(model("small"), model("large", add=1), batch([float("nan"), 0.9]))
    assert answering_models(result) == [3, 1]


@pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED, Code.INVALID_ARGUMENT])
def test_no_heavy_model_for_rows_that_lack_room_time_or_sense(code: Code) -> None:
    heavy = model("large")
    result = asked(model("small", fault=Fault(code, Reason.REASON_OVERLOADED, "full")), heavy, batch([0.4]))
    assert heavy.sizes == []
    assert result.errors[0].code is code


def test_a_valuable_row_that_lacks_room_is_not_sent_either() -> None:
    light, heavy = model("small", fails={0.25: Code.RESOURCE_EXHAUSTED}), model("large", add=10)
    result = asked(light, heavy, batch([0.25, 0.9], [5000, 5000]))
    assert heavy.sizes == [1]
    assert values(result)[1] == 10.9
    assert {row: e.code for row, e in result.errors.items()} == {0: Code.RESOURCE_EXHAUSTED}


def test_the_heavy_model_gets_its_budget_and_at_most_half_of_what_is_left() -> None:
    heavy = model("large")
    sent = batch([0.4, 0.4], budget_s=60.0)
    sent.rows.deadlines[1] = time.monotonic() + 2.0
    asked(model("small"), heavy, sent, budget_ms=5000)
    now = time.monotonic()
    assert heavy.deadlines[0] <= now + 5.0
    assert heavy.deadlines[1] <= now + 1.0


def test_a_heavy_model_that_takes_longer_than_its_budget_is_not_awaited() -> None:
    heavy = model("large")
    heavy.hold = asyncio.Event()
    result = asked(model("small"), heavy, batch([0.4]), budget_ms=20)
    assert values(result) == [0.4]
    assert masks(result) == {"cascade/score:light": [True]}
    [late] = [t for t in result.timings if t.stage == "heavy"]
    assert late.attributes == {"error": "DEADLINE_PASSED"}


def test_rows_with_too_little_time_are_not_sent() -> None:
    heavy = model("large", add=10)
    sent = batch([0.4, 0.4], budget_s=60.0)
    sent.rows.deadlines[1] = time.monotonic() + 20.0
    result = asked(model("small"), heavy, sent, least_ms=30_000)
    assert heavy.sizes == [1]
    assert masks(result) == {"cascade/score:light": [False, True]}


def test_a_standby_is_named_for_the_rows_that_it_answered() -> None:
    light, heavy = model("small"), model("large")
    heavy.standby = True
    assert masks(asked(light, heavy, batch([0.1, 0.4]))) == {"model/score:standby": [False, True]}
    light.standby, heavy.standby = True, False
    assert masks(asked(light, heavy, batch([0.1, 0.4]))) == {"model/score:standby": [True, False]}


def test_a_heavy_model_of_another_type_fails_like_any_other() -> None:
    heavy = model("large")
    heavy.dtype = np.float64
    result = asked(model("small"), heavy, batch([0.1, 0.4]))
    assert masks(result) == {"cascade/score:light": [False, True]}


def test_timings_of_both_models_stand_in_the_stage() -> None:
    result = asked(model("small"), model("large"), batch([0.4]))
    assert [t.stage for t in result.timings] == ["light", "light/run", "heavy", "heavy/run"]


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    st.floats(0, 1),
    st.sets(st.integers(0, 19)),
    st.sets(st.integers(0, 19)),
)
def test_a_row_does_not_depend_on_its_batch(
    xs: list[float], threshold: float, light_fails: set[int], heavy_fails: set[int]
) -> None:
    distinct = sorted({float(np.float32(x)) for x in xs})
    light = {x: Code.INTERNAL for i, x in enumerate(distinct) if i in light_fails}
    heavy = {x: Code.INTERNAL for i, x in enumerate(distinct) if i in heavy_fails}
    unsure = replace(stage().unsure, threshold=threshold)

    def answer(rows: list[float]) -> list[tuple[object, ...]]:
        result = asked(
            model("small", fails=light), model("large", add=10, fails=heavy), batch(rows), unsure=unsure
        )
        out = result.columns[0].array.tolist() if result.columns else [None] * len(rows)
        named = [tuple(n for n, m in result.fallbacks.items() if m[i]) for i in range(len(rows))]
        return [("error",) if i in result.errors else (out[i], named[i]) for i in range(len(rows))]

    together = answer(distinct)
    assert together == [answer([x])[0] for x in distinct]
    for x, got in zip(distinct, together, strict=True):
        chosen = not abs(x - 0.5) >= threshold or x in light
        if x in light and x in heavy:
            assert got == ("error",)
        else:
            by_heavy = chosen and x not in heavy
            used = "heavy" if x in light else "light" if chosen and x in heavy else ""
            value = np.float32(x + 10) if by_heavy else np.float32(x)
            assert got == (value, (f"cascade/score:{used}",) if used else ())


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

"""Explanations on request: rows that a caller sends are explained with the time and the values that it gives."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from headrace.api.router.v1 import explain_pb2
from headrace.columns import Batch, Column
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.predict.explain import EXPLAIN
from services.router.explanations.explainer import asked_rest, stored_rest
from services.router.explanations.pieces import PieceSize
from tests.services.router.router_leaves import SCORED, TWO_MODELS, Suite, batch_of, suite
from tests.services.router.test_router_explanations import DEMANDING, explain, running
from tests.services.waiting import until

NOT_EXPLAINABLE = Code.FAILED_PRECONDITION, Reason.REASON_NOT_EXPLAINABLE


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Suite]:
    async with running(tmp_path, DEMANDING) as (found, _):
        yield found


async def test_rows_are_explained_on_request(started: Suite) -> None:
    [row] = await explain(started, batch_of(["abcd"], [3.0]))
    assert [(c.column, c.contribution, c.value_json, c.base_json) for c in row.contributions] == [
        ("x", 2.0, "3.0", "1.0"),
        ("score", 2.0, "4.0", "2.0"),
    ]
    assert (row.base, row.value, row.output, row.coalition_count) == (3.0, 7.0, "y", 4)
    assert math.fsum(c.contribution for c in row.contributions) == row.value - row.base


@pytest.mark.parametrize(
    ("paced_s", "worked_s", "since_live_s", "rest_s"),
    [
        (5.0, 0.025, math.inf, 0.01),
        (5.0, 0.025, 0.5, 0.225),
        (5.0, 0.0005, 0.5, 0.01),
        (0.1, 0.025, 0.5, 0.1),
    ],
    ids=["nobody is in its way", "beside live calls", "short", "never longer than if nobody waited"],
)
def test_who_waits_does_not_wait_for_long_rests(
    paced_s: float, worked_s: float, since_live_s: float, rest_s: float
) -> None:
    assert asked_rest(paced_s, worked_s, since_live_s) == pytest.approx(rest_s)


def test_stored_predictions_take_a_share_of_the_time() -> None:
    assert stored_rest(0.004, 0.005) == pytest.approx(0.015)
    # It has waited longer than it had to rest.
    assert stored_rest(0.004, 0.25) == 0


async def test_pieces_rest_longer_after_a_live_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since: list[float] = []

    def rest(paced_s: float, worked_s: float, since_live_s: float) -> float:
        since.append(since_live_s)
        return 0.0

    monkeypatch.setattr("services.router.explanations.explainer.asked_rest", rest)
    async with running(tmp_path, DEMANDING.replace("coverage: 1, ", "")) as (started, _):
        await explain(started, batch_of(["abcd"], [3.0]))
        assert set(since) == {math.inf}
        since.clear()
        await started.ask("scored", batch_of(["abcd"], [3.0]))
        await explain(started, batch_of(["abcd"], [3.0]))
        assert since
        assert all(0 <= s < 60 for s in since)


async def test_a_row_on_request_has_the_time_of_the_call(started: Suite) -> None:
    passed = batch_of(["abcd"], [3.0])
    passed.rows.deadlines = [0.0]  # of one prediction, as older doors send it
    [row] = await explain(started, passed)
    assert [c.contribution for c in row.contributions] == [2.0, 2.0]


async def explain_json(started: Suite, *rows: str) -> Sequence[explain_pb2.RowExplanation]:
    request = explain_pb2.ExplainRequest(pipeline="scored", rows_json=rows, tenant="acme", request_id="r")
    deadline = asyncio.get_running_loop().time() + 60
    return (await started.router.client().unary(EXPLAIN)(request, deadline=deadline)).rows


async def test_rows_may_come_as_objects(started: Suite) -> None:
    one, other = await explain_json(started, '{"x": 3, "score": 10.0}', '{"x": 0.5, "score": null}')
    assert [c.contribution for c in one.contributions] == [2.0, 8.0]
    assert not started.features.calls
    # Without a score preprocessing takes −1.
    assert [c.contribution for c in other.contributions] == [-0.5, -3.0]
    [read] = await explain_json(started, '{"x": 3, "key": "abcd"}')
    assert [c.contribution for c in read.contributions] == [2.0, 2.0]
    for wrong, words in (
        ('{"y": 1}', "row 0, column 'y'.*known: key, x, score"),
        ('{"x": "three"}', "row 0, column 'x'.*a number"),
        ("[1]", "row 0: is no object"),
    ):
        with pytest.raises(Fault, match=words) as caught:
            await explain_json(started, wrong)
        assert caught.value.code is Code.INVALID_ARGUMENT


async def test_a_truth_value_is_explained_as_zero_or_one(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING.replace("base: {x: 1.0", "output: positive, base: {x: -9.0")) as (
        started,
        _,
    ):
        [row] = await explain(started, batch_of(["abcd"], [3.0]))
        assert (row.output, row.base, row.value) == ("positive", 0.0, 1.0)
        assert [c.contribution for c in row.contributions] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "refusal", "words"),
    [
        ({"pipeline": "other"}, (Code.NOT_FOUND, Reason.REASON_PIPELINE_UNKNOWN), "other"),
        ({"output": "key"}, NOT_EXPLAINABLE, "name one of: y, positive"),
        ({"revision": "ab" * 32}, NOT_EXPLAINABLE, "does not serve"),
    ],
)
async def test_what_can_not_be_explained_is_said(
    started: Suite, fields: dict[str, str], refusal: tuple[Code, int], words: str
) -> None:
    with pytest.raises(Fault) as caught:
        await explain(started, batch_of(["abcd"], [3.0]), **fields)
    assert (caught.value.code, caught.value.reason) == refusal
    assert words in caught.value.message


async def test_a_base_row_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    async with running(tmp_path, SCORED) as (started, _):
        with pytest.raises(Fault, match="no value for 'x'") as caught:
            await explain(started, batch_of(["abcd"], [3.0]))
        assert caught.value.metadata["cause"] == "base"
        assert caught.value.metadata["column"] == "x"


async def test_too_many_rows_and_wrong_types_are_refused(started: Suite) -> None:
    with pytest.raises(Fault) as caught:
        await explain(started, batch_of(["a"] * 9, [3.0] * 9))
    assert caught.value.reason == Reason.REASON_TOO_LARGE
    wrong = batch_of(["a"], [3.0]).with_columns([Column.of("x", np.array([1]))])
    with pytest.raises(Fault) as caught:
        await explain(started, wrong)
    assert caught.value.code is Code.INVALID_ARGUMENT


class Held:
    """Calls of the executor that wait until `ended`. `tenants`: of the first row of each."""

    def __init__(self) -> None:
        self.ended, self.tenants = asyncio.Event(), list[str]()

    async def __call__(self, batch: Batch) -> None:
        self.tenants.append(batch.rows.tenants[0])
        await self.ended.wait()


@pytest.fixture
def hold(started: Suite) -> Held:
    """The executor, answering nobody."""
    started.executor.hook = made = Held()
    return made


def rows_of(tenant: str, count: int = 1) -> Batch:
    """Rows with their features."""
    batch = batch_of(["abcd"] * count, [3.0] * count, 30.0)
    batch.rows.tenants = [tenant] * count
    return batch.with_columns([Column.of("score", np.full(count, 1.0))])


async def test_a_single_row_waits_for_one_turn_of_a_tenant_with_many(started: Suite, hold: Held) -> None:
    many = [asyncio.create_task(explain(started, rows_of("many", 2))) for _ in range(8)]
    await until(lambda: hold.tenants)
    # Two rows take as many turns here.
    single = asyncio.create_task(explain(started, rows_of("single", 2)))
    await asyncio.sleep(0.2)  # it stands in line
    hold.ended.set()
    await asyncio.gather(single, *many)
    assert hold.tenants[:4] == ["many", "single", "many", "single"]


async def test_who_waits_does_not_wait_for_the_rest_of_one_that_nobody_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.router.explanations.explainer.stored_rest", lambda *_: 3600.0)
    async with running(tmp_path, DEMANDING) as (started, _):
        await started.ask("scored", batch_of(["abcd"], [3.0]))
        await until(lambda: len(started.executor.calls) == 2)
        await explain(started, rows_of("single"))


async def test_stages_at_the_same_time_share_a_turn(tmp_path: Path) -> None:
    hold = Held()
    text = TWO_MODELS.replace("pipeline: two", "pipeline: scored")
    rule = "explanations: {output: c, base: {x: 1.0}}\noutputs:"
    async with running(tmp_path, text.replace("outputs: [a", f"{rule} [a")) as (started, _):
        started.executor.hook = hold
        first = asyncio.create_task(explain(started, batch_of(["abcd"], [3.0])))
        await until(lambda: started.executor.calls)
        second = asyncio.create_task(explain(started, batch_of(["abcd"], [3.0])))
        await asyncio.sleep(0.2)  # both models of it wait for their turn
        hold.ended.set()
        assert len(await first) == len(await second) == 1


async def test_refused_rows_cost_the_pipeline_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING, explanations={"max_asked_rows": 1}) as (started, _):
        hold = Held()
        started.executor.hook = hold
        working = asyncio.create_task(explain(started, batch_of(["abcd"], [3.0])))
        await until(lambda: started.executor.calls)
        read = len(started.features.calls)
        with pytest.raises(Fault) as caught:
            await explain(started, batch_of(["abcd"], [3.0]))
        assert caught.value.metadata["limiter"] == "explanations"
        assert len(started.features.calls) == read == 1
        hold.ended.set()
        await working


async def test_how_slow_one_pipeline_is_says_nothing_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[PieceSize] = []
    monkeypatch.setattr(PieceSize, "ran", lambda size, *_: sizes.append(size))
    documents = {name: DEMANDING.replace("pipeline: scored", f"pipeline: {name}") for name in ("one", "two")}
    async with suite(tmp_path, documents) as started:
        for pipeline in ("one", "one", "two"):
            await explain(started, rows_of("tenant"), pipeline=pipeline)
    assert sizes[0] is sizes[1]
    assert sizes[0] is not sizes[2]

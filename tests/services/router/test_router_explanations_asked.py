"""Explanations on request: rows that a caller sends are explained with the time and the values that it gives."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from headrace.api.router.v1 import explain_pb2
from headrace.columns import Batch, Column
from headrace.hop.errors import Code, Fault, Reason
from services.router.explanations.explainer import asked_rest
from tests.services.router.router_leaves import SCORED, Suite, batch_of
from tests.services.router.test_router_explanations import DEMANDING, EXPLAIN, explain, running
from tests.services.waiting import until

NOT_EXPLAINABLE = Code.FAILED_PRECONDITION, Reason.REASON_NOT_EXPLAINABLE


async def test_rows_are_explained_on_request(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING) as (started, _):
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


async def test_pieces_rest_longer_after_a_live_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since: list[float] = []

    def rest(paced_s: float, worked_s: float, since_live_s: float) -> float:
        since.append(since_live_s)
        return 0.0

    monkeypatch.setattr("services.router.explanations.explainer.asked_rest", rest)
    async with running(tmp_path, DEMANDING.replace("demanded: true, ", "")) as (started, _):
        await explain(started, batch_of(["abcd"], [3.0]))
        assert set(since) == {math.inf}
        since.clear()
        await started.ask("scored", batch_of(["abcd"], [3.0]))
        await explain(started, batch_of(["abcd"], [3.0]))
        assert since
        assert all(0 <= s < 60 for s in since)


async def test_a_row_on_request_has_the_time_of_the_call(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING) as (started, _):
        passed = batch_of(["abcd"], [3.0])
        passed.rows.deadlines = [0.0]  # of one prediction, as older doors send it
        [row] = await explain(started, passed)
        assert [c.contribution for c in row.contributions] == [2.0, 2.0]


async def test_given_features_are_used_on_request(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING) as (started, _):
        batch = batch_of(["abcd"], [3.0]).with_columns([Column.of("score", np.array([10.0]))])
        [row] = await explain(started, batch, output="y")
        assert [c.contribution for c in row.contributions] == [2.0, 8.0]
        assert not started.features.calls


async def explain_json(started: Suite, *rows: str) -> Sequence[explain_pb2.RowExplanation]:
    request = explain_pb2.ExplainRequest(pipeline="scored", rows_json=rows, tenant="acme", request_id="r")
    deadline = asyncio.get_running_loop().time() + 60
    return (await started.router.client().unary(EXPLAIN)(request, deadline=deadline)).rows


async def test_rows_may_come_as_objects(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING) as (started, _):
        one, other = await explain_json(started, '{"x": 3, "score": 10.0}', '{"x": 0.5, "score": null}')
        assert [c.contribution for c in one.contributions] == [2.0, 8.0]
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
    tmp_path: Path, fields: dict[str, str], refusal: tuple[Code, int], words: str
) -> None:
    async with running(tmp_path, DEMANDING) as (started, _):
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


async def test_too_many_rows_and_wrong_types_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING) as (started, _):
        with pytest.raises(Fault) as caught:
            await explain(started, batch_of(["a"] * 9, [3.0] * 9))
        assert caught.value.reason == Reason.REASON_TOO_LARGE
        wrong = batch_of(["a"], [3.0]).with_columns([Column.of("x", np.array([1]))])
        with pytest.raises(Fault) as caught:
            await explain(started, wrong)
        assert caught.value.code is Code.INVALID_ARGUMENT


async def test_more_than_may_wait_is_refused_by_name(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def hold(batch: Batch) -> None:
        await held.wait()

    async with running(tmp_path, DEMANDING, explanations={"max_asked_rows": 1}) as (started, _):
        given = batch_of(["abcd"], [3.0], 30.0).with_columns([Column.of("score", np.array([1.0]))])
        started.executor.hook = hold
        working = asyncio.create_task(explain(started, given))
        await until(lambda: started.executor.calls)
        waiting = asyncio.create_task(explain(started, given))
        third = asyncio.create_task(explain(started, given))
        # Whichever of both came second.
        [refused], [other] = await asyncio.wait({waiting, third}, return_when=asyncio.FIRST_COMPLETED)
        fault = refused.exception()
        assert isinstance(fault, Fault)
        assert fault.metadata["limiter"] == "explanations"
        held.set()
        await asyncio.gather(working, other)

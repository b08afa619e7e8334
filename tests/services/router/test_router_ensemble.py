"""An ensemble stage: how members' answers become one, and what a missing member means."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import EnsembleStage, parse
from services.router.stages.ensemble import EnsembleRunner, votes, weighted_mean
from services.router.stages.runner import StageResult
from tests.services.router.stage_results import Model, masks, values

DOCUMENT = """
pipeline: p
version: 1
deadline_ms: 1000
inputs: {x: float32}
stages:
  - ensemble: score
    members:
      a: {name: model_a, inputs: {x: x}, output: p, weight: 1}
      b: {name: model_b, inputs: {x: x}, output: p, weight: 3}
      c: {name: model_c, inputs: {x: x}, output: p, weight: 4}
    combine: mean
    into: {column: p, type: float32}
outputs: [p]
"""
FAULT = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "nobody there")


def stage(required: str = "", **changes: object) -> EnsembleStage:
    [found] = parse(DOCUMENT, "p.yaml").stages
    assert isinstance(found, EnsembleStage)
    members = {n: replace(m, required=n in required) for n, m in found.members.items()}
    return replace(found, members=MappingProxyType(members), **changes)  # type: ignore[arg-type]  # of fields of any type


def times(factor: float, fails: Mapping[float, RowError] | None = None, fault: Fault | None = None) -> Model:
    """Answers x × `factor`; rows with x in `fails` fail."""
    return Model(f"times{factor:g}", lambda x: x * factor, fails or {}, fault)


def batch(xs: list[float], budget_s: float = 60.0) -> Batch:
    rows = Rows.one_request(len(xs), "r", "t", time.monotonic() + budget_s)
    return Batch.of(rows, [Column.of("x", np.array(xs, np.float32))])


def failing(code: Code = Code.INTERNAL, reason: Reason = Reason.REASON_MODEL_FAILED) -> RowError:
    return RowError(code, reason, "as asked", "executor", {"hint": "kept"})


def asked(found: EnsembleStage, models: Mapping[str, Model], sent: Batch) -> StageResult:
    return asyncio.run(EnsembleRunner(found, models, time.monotonic).run(sent))


@pytest.mark.parametrize("parallel", [True, False])
def test_the_mean_is_weighted(parallel: bool) -> None:
    models = {"a": times(1), "b": times(2), "c": times(3)}
    result = asked(stage(parallel=parallel), models, batch([8.0, 16.0]))
    assert values(result) == [8 * (1 + 6 + 12) / 8, 16 * 19 / 8]
    assert [m.model for m in result.models] == ["times1", "times2", "times3"]
    assert result.asked == {"model_a": 2, "model_b": 2, "model_c": 2}
    assert not result.fallbacks
    assert not result.errors


@pytest.mark.parametrize("parallel", [True, False])
def test_weights_are_renormalised_over_those_present_in_each_row(parallel: bool) -> None:
    models = {"a": times(1, {2.0: failing()}), "b": times(2), "c": times(3, fault=FAULT)}
    result = asked(stage(parallel=parallel), models, batch([1.0, 2.0]))
    assert values(result) == [(1 + 6) / 4, 4.0]
    assert masks(result) == {"ensemble/score:a": [False, True], "ensemble/score:c": [True, True]}
    [who] = result.annotations
    assert who.name == "@models/score"
    # The models that could be asked are a and b.
    assert who.array.tolist() == [3, 2]
    assert not result.errors


@pytest.mark.parametrize("parallel", [True, False])
def test_a_failed_required_member_fails_the_row_and_is_named(parallel: bool) -> None:
    models = {"a": times(1), "b": times(2, {2.0: failing()}), "c": times(3, {1.0: failing()})}
    result = asked(stage("b", parallel=parallel), models, batch([1.0, 2.0]))
    [(row, error)] = result.errors.items()
    assert (row, error.code, error.reason) == (1, Code.INTERNAL, Reason.REASON_MEMBER_FAILED)
    assert error.metadata == {"hint": "kept", "member": "b", "cause": "MODEL_FAILED"}
    assert "member b of the ensemble score is required" in error.message
    assert values(result)[0] == (1 + 6) / 4
    # The failed row used no fallback: it has no answer.
    assert masks(result) == {"ensemble/score:c": [True, False]}


def test_in_turn_a_row_without_its_required_member_is_sent_to_no_other() -> None:
    models = {"a": times(1, {1.0: failing(), 3.0: failing()}), "b": times(2), "c": times(3)}
    result = asked(stage("a", parallel=False), models, batch([1.0, 2.0, 3.0]))
    assert [m.sizes for m in models.values()] == [[3], [1], [1]]
    assert sorted(result.errors) == [0, 2]
    assert values(result)[1] == 2 * 19 / 8


def test_in_turn_nobody_is_asked_for_rows_that_are_all_lost() -> None:
    models = {"a": times(1, fault=FAULT), "b": times(2), "c": times(3)}
    result = asked(stage("a", parallel=False), models, batch([1.0]))
    assert [m.sizes for m in models.values()] == [[1], [], []]
    assert result.errors[0].metadata["member"] == "a"
    assert result.columns == []


def test_a_missed_quorum_names_the_missing() -> None:
    models = {"a": times(1), "b": times(2, {2.0: failing()}), "c": times(3, {2.0: failing(), 1.0: failing()})}
    result = asked(stage(quorum=2), models, batch([1.0, 2.0]))
    [(row, error)] = result.errors.items()
    assert (row, error.code, error.reason) == (1, Code.UNAVAILABLE, Reason.REASON_QUORUM_MISSED)
    assert error.metadata == {"quorum": "2", "answered": "1", "missing": "b,c"}
    assert "b (MODEL_FAILED), c (MODEL_FAILED)" in error.message


def test_the_callers_own_mistake_stays_the_callers() -> None:
    mistake = failing(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING)
    models = {"a": times(1, {1.0: mistake}), "b": times(2, {1.0: mistake}), "c": times(3, {1.0: mistake})}
    for found in (stage(), stage("b")):
        result = asked(found, models, batch([1.0]))
        assert result.errors[0].reason == Reason.REASON_INPUT_MISSING
        assert result.errors[0].metadata["member"] == ("b" if found.members["b"].required else "a")


def test_a_row_whose_time_is_over_says_so_but_a_members_budget_is_ours() -> None:
    late = failing(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED)
    models = {"a": times(1, {1.0: late}), "b": times(2), "c": times(3)}
    assert asked(stage("a"), models, batch([1.0])).errors[0].reason == Reason.REASON_MEMBER_FAILED
    over = asked(stage("a"), models, batch([1.0], budget_s=-1.0))
    assert over.errors[0].reason == Reason.REASON_DEADLINE_PASSED


def test_a_member_that_takes_longer_than_its_budget_is_missing() -> None:
    found = stage()
    slow = replace(found.members["c"], budget_ms=20)
    models = {"a": times(1), "b": times(1), "c": times(1)}

    async def run() -> StageResult:
        models["c"].hold = asyncio.Event()
        members = MappingProxyType({**found.members, "c": slow})
        return await EnsembleRunner(replace(found, members=members), models, time.monotonic).run(batch([1.0]))

    assert masks(asyncio.run(run())) == {"ensemble/score:c": [True]}


def test_in_parallel_no_member_waits_for_another() -> None:
    models = {"a": times(1), "b": times(2), "c": times(3)}

    async def run() -> StageResult:
        event = asyncio.Event()
        models["a"].hold = event
        models["c"].on_call = event.set
        return await EnsembleRunner(stage(), models, time.monotonic).run(batch([8.0]))

    assert values(asyncio.run(run())) == [19.0]


def test_votes_are_for_whole_numbers() -> None:
    models = {"a": times(7), "b": times(7), "c": times(9)}
    for model in models.values():
        model.dtype = np.int64
    result = asked(stage(combine="vote"), models, batch([1.0]))
    # 1 + 3 against 4: of equal weights, the first member's value.
    assert values(result) == [7]
    assert result.columns[0].array.dtype == np.int64
    with pytest.raises(Fault, match="a vote can't be taken of float32"):
        asked(stage(combine="vote"), {n: times(1) for n in models}, batch([1.0]))


def test_members_of_different_types_are_refused() -> None:
    models = {"a": times(1), "b": times(2), "c": times(3)}
    models["b"].dtype = np.float64
    with pytest.raises(Fault, match="member 'b' gives float64"):
        asked(stage(), models, batch([1.0]))


Shares = st.lists(st.floats(0.01, 100), min_size=1, max_size=5)


def table(items: st.SearchStrategy[Any], members: int, rows: int) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.lists(items, min_size=rows, max_size=rows), min_size=members, max_size=members)


@given(Shares, st.data())
def test_a_mean_lies_between_those_present(weights: list[float], data: st.DataObject) -> None:
    members, rows = len(weights), 4
    x: NDArray[np.float64] = np.array(data.draw(table(st.floats(-1e3, 1e3), members, rows)))
    present = np.array(data.draw(table(st.booleans(), members, rows)), bool)
    spoiled = np.where(present, x, np.nan)
    mean = weighted_mean(spoiled, present, np.array(weights))
    for row in range(rows):
        held = x[present[:, row], row]
        if len(held):
            share = np.array(weights)[present[:, row]]
            assert mean[row] == pytest.approx(np.average(held, weights=share), rel=1e-9, abs=1e-9)
            assert held.min() - 1e-9 <= mean[row] <= held.max() + 1e-9


@given(Shares, st.data())
def test_a_vote_is_won_by_the_greatest_weight(weights: list[float], data: st.DataObject) -> None:
    members = len(weights)
    x = np.array(data.draw(st.lists(st.integers(0, 3), min_size=members, max_size=members)))
    present = np.array(data.draw(st.lists(st.booleans(), min_size=members, max_size=members)), bool)
    if not present.any():
        return
    [won] = votes(x[:, None], present[:, None], np.array(weights)).tolist()
    behind = {
        value: sum(w for w, v, p in zip(weights, x.tolist(), present, strict=True) if p and v == value)
        for value in x[present].tolist()
    }
    assert won in behind
    assert behind[won] >= max(behind.values()) - 1e-9

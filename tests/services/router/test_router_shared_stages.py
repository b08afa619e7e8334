"""Stages that all arms have run once for all rows; what comes of it is as if each arm had run them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from headrace.columns import Batch, Column, RowError, Rows, Timing
from headrace.hop.errors import Code, Reason
from headrace.pipeline import ModelStage, ModelUse, parse
from headrace.releases import Released
from services.router.inference import PipelineResult
from services.router.pipelines import Compiler, Served
from services.router.routes.route import Route, Share
from services.router.routes.run import FALLBACKS
from services.router.routes.shared_stages import SharedStages
from services.router.stages.runner import StageResult
from tests.services.router.one_pipeline import inference

DOCUMENT = """\
pipeline: chain
version: 1
deadline_ms: 100
inputs: {x: float32}
stages:
  - {model: head, name: HEAD, inputs: {x: x}, outputs: {y: {column: h, type: float32}}}
  - {model: middle, name: MIDDLE, inputs: {h: h}, outputs: {y: {column: m, type: float32}}}
  - {model: tail, name: add1, inputs: {m: m}, outputs: {y: {column: y, type: float32}}}
outputs: [y, h]
"""
REFUSED = RowError(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, "no weather")
# Rows with this value fail in the head; those above it are on a fallback there.
FAILS = 3.0


class Adder:
    """Runs a model stage: adds the number at the end of the model's name to what it reads."""

    service = "executor"
    ran: list[tuple[str, int]]

    def __init__(self, stage: ModelStage) -> None:
        self._stage = stage

    async def run(self, batch: Batch) -> StageResult:
        name, model = self._stage.name, self._stage.model
        Adder.ran.append((name, len(batch)))
        [values] = [column.array for column in batch.columns.values()]
        added = Column.of(
            {"head": "h", "middle": "m", "tail": "y"}[name], values + np.float32(model.removeprefix("add"))
        )
        uses = [ModelUse(name, model, "1", "ff")]
        if name != "head":
            return StageResult([added], models=uses)
        age = Column.of("@age", np.arange(len(values), dtype=np.int64))
        return StageResult(
            [added],
            [age],
            errors={i: REFUSED for i, value in enumerate(values.tolist()) if value == FAILS},
            fallbacks={"stale": values > FAILS},
            refusals={"stale": 1},
            timings=[Timing("inside", "executor", 0, 5, len(values))],
            models=uses,
        )


class Thirds:
    """The third row of each three goes to the second route."""

    release = 7

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        rows = np.arange(len(batch))
        return [Share(routes[0], rows[rows % 3 != 2]), Share(routes[1], rows[rows % 3 == 2])]


def route(arm: str, head: str, middle: str) -> tuple[Served, Route]:
    text = DOCUMENT.replace("HEAD", head).replace("MIDDLE", middle)
    made = Compiler({"model": Adder}).compile(Released.of(parse(text, "chain.yaml")))
    return made, Route(arm, made.routes[0].plan, made.routes[0].runners)


async def answered(head: str, count: int = 6) -> PipelineResult:
    Adder.ran = []
    rows = Rows.one_request(count, "r", "t", time.monotonic() + 60)
    batch = Batch.of(rows, [Column.of("x", np.arange(count, dtype=np.float32))])
    live, first = route("live", "add100", "add10")
    _, second = route("candidate", head, "add20")
    return await inference(Served(live.pipeline, (first, second), Thirds())).infer("chain", 0, batch)


async def test_a_stage_that_both_arms_have_runs_once() -> None:
    await answered("add100")
    # Row 3 failed in the head, so it goes no further.
    assert sorted(Adder.ran) == [("head", 6), ("middle", 2), ("middle", 3), ("tail", 2), ("tail", 3)]


async def test_a_stage_that_differs_runs_for_each_arm_and_so_do_those_behind_it() -> None:
    await answered("add200")
    assert sorted(Adder.ran)[:2] == [("head", 2), ("head", 4)]


def summary(result: PipelineResult) -> dict[str, Any]:
    batch = result.batch
    bits = batch.columns[FALLBACKS].array.tolist()
    return {
        "y": [y for i, y in enumerate(batch.columns["y"].array.tolist()) if i not in batch.errors],
        "h": [h for i, h in enumerate(batch.columns["h"].array.tolist()) if i not in batch.errors],
        "errors": {i: (e.code, e.reason, e.stage) for i, e in batch.errors.items()},
        "fallbacks": [[n for b, n in enumerate(result.fallbacks) if bit >> b & 1] for bit in bits],
        "decisions": batch.columns["@decision"].array.tolist(),
        "models": [[(m.stage, m.model) for m in d.models] for d in result.decisions],
    }


async def test_each_row_is_answered_as_if_its_arm_had_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together = await answered("add100")
    monkeypatch.setattr(SharedStages, "of", lambda self, routes: frozenset())
    apart = await answered("add100")
    assert len(Adder.ran) == 6
    assert summary(together) == summary(apart)
    assert summary(together)["y"] == [111.0, 112.0, 123.0, 115.0, 126.0]
    code, reason = Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE
    assert summary(together)["errors"] == {3: (code, reason, "head")}
    assert summary(together)["fallbacks"] == [[], [], [], [], ["stale"], ["stale"]]
    # Of its own batch: rows of the head's one call.
    assert together.batch.columns["@age"].array.tolist() == [0, 1, 2, 3, 4, 5]


async def test_the_shared_stage_is_timed_once_for_all_rows() -> None:
    timed = [(t.stage, t.row_count) for t in (await answered("add100")).batch.timings]
    stages = ["head", "head/inside", "middle", "middle", "tail", "tail"]
    assert sorted(timed) == list(zip(stages, [6, 6, 2, 3, 2, 3], strict=True))


def test_what_is_shared_ends_with_the_first_stage_that_differs() -> None:
    routes = [route(arm, "add100", middle)[1] for arm, middle in (("a", "add10"), ("b", "add20"))]
    assert SharedStages().of(routes) == {0}
    same = [route(arm, "add100", "add10")[1] for arm in "ab"]
    assert SharedStages().of(same) == {0, 1, 2}

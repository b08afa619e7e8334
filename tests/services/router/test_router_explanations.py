"""Explanations over sockets: what each column added, or each patch of an image; of stored predictions and on request, and
never in the way of a live call."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.api.monitoring.v1 import explanations_pb2
from headrace.api.router.v1 import explain_pb2
from headrace.columns import Batch, Column, encode
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import parse
from services.ingress.predict.explain import EXPLAIN
from services.router.explanations.stored import Predictions, rows_of
from services.router.explanations.subject import Subject
from tests.services.router.router_leaves import SCORED, Suite, batch_of
from tests.services.router.router_monitoring import Monitoring, monitored
from tests.services.waiting import until

# y = x + score, and the score is the length of the key: so contributions are known.
BASE = "explanations: {coverage: 1, base: {x: 1.0, score: 2.0}}\noutputs:"
# No stage is late on a busy machine: a row that it failed would not be explained.
PATIENT = SCORED.replace("deadline_ms: 5000", "deadline_ms: 60000")
DEMANDING = PATIENT.replace("outputs: [y, positive]", f"{BASE} [y, positive]")
REGULATED = DEMANDING.replace("deadline_ms", "regulated: true\ndeadline_ms", 1)
# Four rows and six columns: each pixel is a patch.
PICTURE = """pipeline: scored
version: 1
deadline_ms: 5000
inputs:
  key: {type: string}
  x: {type: float32}
stages:
  - preprocessing: pixels
    steps: [decode_image: {column: key, into: input, size: [4, 6]}]
    outputs: {input: {type: uint8, shape: [4, 6, 3]}}
  - model: sum
    name: adder
    inputs: {image: input, weight: x}
    outputs: {total: {column: y, type: float64}}
explanations: {coverage: 1}
outputs: [y]
"""
PIXELS = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture(autouse=True)
def _told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine is slow to take is not sent again, so it can be counted."""
    monkeypatch.setattr("services.router.facts.sender._CALL_S", 60.0)
    monkeypatch.setattr("services.router.facts.sender._AGAIN_S", 0.01)
    monkeypatch.setattr("services.router.explanations.stored._IDLE_S", 0.01)


def explained(monitoring: Monitoring) -> list[explanations_pb2.Explanation]:
    return [e for r in monitoring.explanations for e in r.explanations]


def ids(monitoring: Monitoring) -> set[bytes]:
    return {i for g in monitoring.groups for i in g.batch.columns["@event_id"].ragged.to_list()}


@asynccontextmanager
async def running(folder: Path, text: str, **settings: Any) -> AsyncIterator[tuple[Suite, Monitoring]]:
    events = {"wait_s": 0.02, "journal": {"folder": folder / "journal", "collect_s": 0.05}}
    async with monitored(folder, {"scored": text}, events=events, **settings) as found:
        yield found


def came(started: Suite, result: str) -> float:
    """So many explanations came to this."""
    return started.sample("router_explanations_total", pipeline="scored", result=result) or 0.0


async def explain(started: Suite, batch: Batch, **fields: Any) -> Sequence[explain_pb2.RowExplanation]:
    loop = asyncio.get_running_loop()
    request = explain_pb2.ExplainRequest(**{"pipeline": "scored", **fields}, batch=encode(batch, loop.time()))
    reply = await started.router.client().unary(EXPLAIN)(request, deadline=loop.time() + 60)
    return reply.rows


@pytest.mark.parametrize("text", [DEMANDING, REGULATED], ids=["ring", "journal"])
async def test_each_stored_prediction_is_explained(tmp_path: Path, text: str) -> None:
    async with running(tmp_path, text) as (started, monitoring):
        await started.ask("scored", batch_of(["abcd", "ab"], [3.0, -5.0]))
        await until(lambda: len(explained(monitoring)) == 2)
        first, second = explained(monitoring)
        assert (list(first.columns), list(first.contributions)) == (["x", "score"], [2.0, 2.0])
        # The second one's score is that of the base row.
        assert list(second.contributions) == [-6.0, 0.0]
        assert (first.base, first.value, first.exact) == (3.0, 7.0, True)
        assert (first.tenant, first.pipeline, first.output, first.arm) == ("tenant", "scored", "y", "live")
        assert list(first.base_sources) == ["document", "document"]
        # An explanation names the prediction as its event does.
        assert {e.prediction_id for e in explained(monitoring)} == ids(monitoring)
        assert came(started, "explained") == 2
        # One piece for both, four coalitions each.
        assert started.executor.calls == [2, 8]
        # Features are those that the answer had.
        assert started.features.calls == [2]


async def fail(batch: Batch) -> None:
    """Of the model: it fails explanations alone, of rows that have -7."""
    if batch.rows.priorities[0] == 0 and (batch.columns["numbers"].array == -7).any():
        raise Fault(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "broken")


async def test_a_failing_model_fails_no_answer_and_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING) as (started, monitoring):
        started.executor.hook = fail
        reply = await started.ask("scored", batch_of(["a", "abcd"], [-7.0, 3.0]))
        assert not reply.batch.errors
        await until(lambda: came(started, "failed") == 1)
        # The other one is explained by itself then.
        await until(lambda: explained(monitoring))
        assert [e.value for e in explained(monitoring)] == [7.0]
        # What it took is told all the same.
        await until(lambda: took(monitoring).get(("tenant", "scored"), (0, 0))[1] == 8 + 4 + 4)


async def test_a_refusal_of_a_full_callee_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.router.explanations.explainer._PAUSE_S", 0.01)
    refusals = iter([True])

    async def full(batch: Batch) -> None:
        if batch.rows.priorities[0] == 0 and next(refusals, False):
            raise Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED, "full")

    async with running(tmp_path, DEMANDING) as (started, monitoring):
        started.executor.hook = full
        await started.ask("scored", batch_of(["a"], [1.0]))
        await until(lambda: explained(monitoring))


def took(monitoring: Monitoring) -> dict[tuple[str, str], tuple[int, int, frozenset[str]]]:
    """By tenant and pipeline: explanations, rows and who worked for them; what came twice counts once."""
    named = {r.number: r.works for r in monitoring.explanations if r.works}
    found: dict[tuple[str, str], tuple[int, int, frozenset[str]]] = {}
    for work in (w for works in named.values() for w in works):
        who = work.tenant, work.pipeline
        count, rows, names = found.get(who, (0, 0, frozenset()))
        assert all(us > 0 for us in work.busy_us.values())
        found[who] = count + work.explanation_count, rows + work.row_count, names | frozenset(work.busy_us)
    return found


async def test_what_explanations_took_is_told_of_those_that_are_asked_for_too(tmp_path: Path) -> None:
    async with running(tmp_path, DEMANDING) as (started, monitoring):
        monitoring.again = {"explanations"}
        await started.ask("scored", batch_of(["abcd", "ab"], [3.0, -5.0]))
        await explain(started, batch_of(["abcd"], [3.0]))
        await until(lambda: came(started, "explained") == 2)
        monitoring.again = set()
        # Four coalitions each.
        await until(lambda: took(monitoring).get(("tenant", "scored"), (0,))[0] == 3)
        assert took(monitoring)["tenant", "scored"][:2] == (3, 12)
        # Explanations wait for monitoring, too.
        await until(lambda: len(explained(monitoring)) == 2)


async def test_monitoring_that_is_away_is_asked_again_and_a_base_row_that_lacks_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Monitoring.NextPredictions
    refusals = iter([True])

    async def refuse(leaf: Monitoring, request: Any, call: Any) -> Any:
        if next(refusals, False):
            raise Fault(Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE, "away")
        return await asked(leaf, request, call)

    monkeypatch.setattr(Monitoring, "NextPredictions", refuse)
    async with running(tmp_path, DEMANDING) as (started, monitoring):
        await started.ask("scored", batch_of(["abcd"], [3.0]))
        await until(lambda: explained(monitoring))
    lacking = PATIENT.replace("outputs: [y", "explanations: {coverage: 1}\noutputs: [y")
    async with running(tmp_path / "other", lacking) as (started, _):
        await until(lambda: came(started, "base") > 0)


async def test_rows_have_the_shapes_that_the_document_declares() -> None:
    flat = Column.of("grid", np.arange(12, dtype=np.float32).reshape(2, 6))
    pipeline = parse(
        PICTURE.replace("x: {type", "grid: {type: float32, shape: [2, 3]}\n  x: {type"), "p.yaml"
    )
    batch = batch_of(["a", "b"], [1.0, 2.0]).with_columns([flat])
    subject = Subject("live", pipeline, "y", None, (), None, ())  # type: ignore[arg-type]  # the document alone matters
    first, second = rows_of(Predictions("p", "r", [b"1", b"2"], batch), subject)
    assert second.columns["grid"].array.tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert (first.columns["x"].array.tolist(), second.seed) == ([1.0], b"2")


class Leaves:
    """`decoded`, `asked`: rows of each call; `priorities`: of the rows that the model got."""

    def __init__(self) -> None:
        self.decoded: list[int] = []
        self.asked: list[int] = []
        self.priorities: Counter[int] = Counter()

    async def decode(self, batch: Batch) -> Batch:
        self.decoded.append(len(batch))
        return replace(batch, columns={"input": Column.of("input", np.stack([PIXELS] * len(batch)))})

    async def add(self, batch: Batch) -> Batch:
        """The sum of all, times the weight of the row."""
        self.asked.append(len(batch))
        self.priorities.update(batch.rows.priorities)
        sums = batch.columns["image"].array.astype(np.float64).sum(axis=(1, 2, 3))
        return replace(batch, columns={"total": Column.of("total", sums * batch.columns["weight"].array)})


async def test_each_patch_of_an_answered_image_is_told(tmp_path: Path) -> None:
    leaves = Leaves()
    async with running(tmp_path, PICTURE) as (started, monitoring):
        started.preprocessing.hook, started.executor.hook = leaves.decode, leaves.add
        await started.ask("scored", batch_of(["a file"], [2.0]))
        await until(lambda: explained(monitoring))
        [told] = explained(monitoring)
    assert list(told.columns) == [*(f"input[{r},{c}]" for r in range(4) for c in range(6)), "input[rest]"]
    assert set(told.base_sources) == {"blank"}
    # The weight, which is no pixel, stays as it is.
    each = 2.0 * (PIXELS.astype(float) - 128).sum(axis=2).ravel()
    assert list(told.contributions) == pytest.approx([*each, 0.0])
    assert (told.base, told.value) == (2.0 * 72 * 128, 2.0 * PIXELS.sum())
    # Once for the caller and once for the explanation; the model for the caller, and for 26 images.
    assert leaves.decoded == [1, 1]
    assert sum(leaves.asked) == 1 + 26
    assert leaves.asked[1] == 1
    assert leaves.priorities == {0: 26, 1: 1}


async def test_an_image_is_explained_on_request(tmp_path: Path) -> None:
    leaves = Leaves()
    async with running(tmp_path, PICTURE.replace("explanations: {coverage: 1}\n", "")) as (started, _):
        started.preprocessing.hook, started.executor.hook = leaves.decode, leaves.add
        [row] = await explain(started, batch_of(["a file"], [1.0]))
    assert row.coalition_count == 27
    assert [c.column for c in row.contributions][-1] == "input[rest]"
    # What an operator is shown holds nothing of the image.
    assert {(c.base_json, c.value_json) for c in row.contributions} == {("", "")}

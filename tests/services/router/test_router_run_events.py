"""What is noted of runs: the row of its request, the key that decided, what a run raised that gave no answer; and how long the
services worked for each row, by what they report of batches."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1.events_pb2 import EventReport
from headrace.columns import Batch, Column, Timing
from headrace.events import EventGroup, Mask, messages
from headrace.hop.errors import Code, Fault, Reason
from services.router.events.busy import busy, busy_columns
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.commits import Commits
from services.router.events.ring import AnsweredBatch, Notes, Ring
from services.router.facts.clients import EventMessages
from services.router.facts.queue import Queue
from services.router.pipelines import Served
from services.router.routes.run import FALLBACKS, bits
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.router import test_router_routes
from tests.services.router.one_pipeline import inference
from tests.services.router.test_router_routes import HOW, Broken, batch, rules, two_arms

MASK = Mask(b"s" * 32)
SPLIT: dict[str, Any] = {
    "rules": rules(candidate=[1.0], live=[2.0, 3.0]),
    "assign": {"weights": {"live": 0.5, "candidate": 0.5}, "by": "x", "salt": "s"},
}


class Observed:
    """An inference whose events are kept here, those of regulated predictions in `committed`."""

    def __init__(self, found: Served, mask: Mask = MASK) -> None:
        metrics, self.committed = EventMetrics(CollectorRegistry()), list[EventReport]()
        notes, clock = Notes(4096, time.time), time.monotonic
        self.ring = Ring(Queue(1 << 25), 1 << 20, notes, metrics, clock, Log())
        self.builder = GroupBuilder(mask)
        of_commits = Notes(4096, time.time), self.builder, EventMessages("router-1"), metrics, clock, Log()
        commits = Commits(self, None, *of_commits)
        self.inference = inference(found, (self.ring,), commits=commits)

    async def commit(self, events: EventReport, deadline: float) -> None:
        self.committed.append(events)

    def groups(self) -> list[EventGroup]:
        noted = self.builder.groups(self.ring.drain())
        return [*noted, *(group for report in self.committed for group in messages.read(report)[0])]


def values(groups: Sequence[EventGroup], name: str) -> list[Any]:
    return [value for group in groups for value in group.batch.columns[name].array.tolist()]


def of_two_tenants(count: int) -> Batch:
    """Two requests with the same id, one behind the other."""
    made = batch(count)
    made.rows.tenants = [f"t{i * 2 // count}" for i in range(count)]
    return made


@pytest.mark.parametrize("count", [8, 40])
async def test_an_event_names_the_row_of_its_request_whatever_the_arms(count: int) -> None:
    world = Observed(two_arms(counted=HOW, **SPLIT))
    asked = of_two_tenants(count)
    await world.inference.infer("double", 0, asked)
    await world.inference.infer("double", 0, asked)
    groups = world.groups()
    # The same request again has the same rows, and those of one arm are not counted on their own.
    assert [g.header.arm for g in groups] == ["live", "candidate"]
    assert sum(map(len, groups)) == 2 * count
    x = np.array(values(groups, "x"))
    assert values(groups, "@row") == (x.astype(int) % (count // 2)).tolist()


async def test_the_key_that_decided_is_there_as_a_hash_of_the_column() -> None:
    world = Observed(two_arms(counted=HOW, **SPLIT))
    await world.inference.infer("double", 0, batch(20))
    found: dict[float, bytes] = {}
    for group in world.groups():
        keys = group.batch.columns["@key"].ragged.to_list()
        found |= dict(zip(group.batch.columns["x"].array.tolist(), keys, strict=True))
    assert len(found) == 20
    assert found == {x: MASK.hash("x", str(x).encode()) for x in found}


async def test_without_a_key_there_is_no_hash_and_nothing_is_drawn_where_outcomes_compare_nothing() -> None:
    world = Observed(two_arms())
    await world.inference.infer("double", 0, batch(4))
    assert not any({"@key", "@drawn"} & {*group.batch.columns} for group in world.groups())


async def test_the_tenant_may_decide() -> None:
    world = Observed(two_arms(counted=replace(HOW, by="@tenant"), **SPLIT))
    await world.inference.infer("double", 0, of_two_tenants(20))
    found = {key for group in world.groups() for key in group.batch.columns["@key"].ragged.to_list()}
    assert found == {MASK.hash("@tenant", tenant) for tenant in (b"t0", b"t1")}


@pytest.mark.parametrize("private", [False, True])
async def test_without_a_salt_units_are_told_apart_by_what_is_no_personal_data(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if private:
        text = test_router_routes.DOCUMENT.replace(
            "{x: float32}\nstages", "{x: {type: float32, pii: true}}\nstages"
        )
        monkeypatch.setattr(test_router_routes, "DOCUMENT", text)
    world = Observed(two_arms(counted=HOW, **SPLIT), Mask(None))
    await world.inference.infer("double", 0, batch(20))
    keys = [key for group in world.groups() for key in group.batch.columns["@key"].ragged.to_list()]
    assert len({*keys}) == (1 if private else 20)


@pytest.mark.parametrize("regulated", [False, True])
async def test_where_outcomes_compare_arms_an_event_says_whether_chance_sent_its_row(regulated: bool) -> None:
    world = Observed(two_arms(counted=replace(HOW, by_outcomes=True), **SPLIT))
    for asked in (batch(20), batch(1)):
        asked = asked.with_columns([Column.of("@regulated", np.ones(len(asked), bool))] if regulated else [])
        await world.inference.infer("double", 0, asked)
    groups = world.groups()
    drawn = zip(values(groups, "x"), values(groups, "@drawn"), strict=True)
    assert {*drawn} == {(float(x), x not in (1, 2, 3)) for x in range(20)}


@pytest.mark.parametrize("regulated", [False, True])
@pytest.mark.parametrize("split", [False, True])
async def test_a_failed_run_has_events_without_outputs(regulated: bool, split: bool) -> None:
    changes = SPLIT if split else {}
    world = Observed(two_arms(Broken, HOW, **changes))
    asked = batch(20)
    if regulated:
        asked = asked.with_columns([Column.of("@regulated", np.ones(20, bool))])
    with pytest.raises((KeyError, ExceptionGroup)):
        await world.inference.infer("double", 0, asked)
    groups = world.groups()
    assert bool(world.committed) is regulated
    assert len(values(groups, "x")) == (20 if not split else pytest.approx(20, abs=19))
    assert {*values(groups, "@code")} == {int(Code.INTERNAL)}
    assert {*values(groups, "@reason")} == {int(Reason.REASON_INTERNAL)}
    assert not any("y" in g.batch.columns for g in groups)
    assert {g.header.inputs for g in groups} == {("x",)}


async def test_a_batch_that_does_not_fit_has_events_with_its_fault() -> None:
    world = Observed(two_arms(counted=HOW))
    wrong = Batch.of(batch(3).rows, [Column.of("x", np.zeros(3, np.int64))])
    with pytest.raises(Fault):
        await world.inference.infer("double", 0, wrong)
    await world.inference.infer("double", 0, batch(2))
    groups = world.groups()
    # What is no value of the input is left out, so that it spoils no other event.
    assert [(len(g), g.header.inputs) for g in groups] == [(3, ()), (2, ("x",))]
    assert values(groups, "@code") == [int(Code.INVALID_ARGUMENT)] * 3 + [0] * 2


async def test_batches_with_other_fallbacks_are_one_group() -> None:
    world, kept = Observed(two_arms(counted=HOW)), list[AnsweredBatch]()
    names = [f"f{i}" for i in range(5)]
    drawn, told = np.random.default_rng(3), list[set[str]]()
    for size in (1, 3, 1, 2, 5, 1, 1, 4):
        await world.inference.infer("double", 0, batch(size))
        noted = world.ring.drain()[0]
        noted.fallbacks = [str(n) for n in drawn.permutation(names)[: drawn.integers(0, 6)]]
        used = {name: drawn.random(size) < 0.5 for name in noted.fallbacks}
        values = {n: v for n, v in zip(noted.names, noted.values, strict=True) if n != FALLBACKS}
        values[FALLBACKS] = bits(used, size).array
        noted.names, noted.values = tuple(values), list(values.values())
        told += [{name for name in used if used[name][row]} for row in range(size)]
        kept.append(noted)
    (group,) = world.builder.groups(kept)
    column = group.batch.columns[FALLBACKS].array.tolist()
    assert [{n for i, n in enumerate(group.header.fallbacks) if row >> i & 1} for row in column] == told
    # What comes next keeps the header, so that it goes into the same segment.
    (again,) = world.builder.groups(kept[-1:])
    assert again.header == group.header


def executor(rows: int, *runs: tuple[int, int], stage: str = "light") -> list[Timing]:
    """A call of the executor with so many rows. `runs`: µs and rows of each."""
    own = Timing(stage, "executor", 0, 500, rows, {"model.name": "m", "model.version": "2"})
    ran = [Timing(f"{stage}/run", "executor", 0, us, count) for us, count in runs]
    return [own, Timing(f"{stage}/queue", "executor", 0, 300, rows), *ran]


def features(rows: int, us: int) -> list[Timing]:
    return [
        Timing("store", "features", 0, 1000, rows),
        Timing("store/features", "features", 0, us, rows),
        Timing("store/features/store", "features", 0, us // 2, rows),
    ]


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        (executor(4, (80, 4)), {"executor/m:2": (80.0, 4)}),
        # With rows of others.
        (executor(4, (80, 8)), {"executor/m:2": (40.0, 4)}),
        # Two runs, which report no rows of ours: those of the mean.
        (executor(4, (80, 8), (30, 1)), {"executor/m:2": (80.0, 4)}),
        # What it waited for is within its own time.
        (features(2, 90), {"features": (90.0, 2)}),
        # Two stages of one service.
        (
            [*executor(4, (80, 4)), *executor(2, (20, 1), (60, 2), stage="other")],
            {"executor/m:2": (80.0 + 50.0, 6)},
        ),
        # A part of a stage with several models.
        (
            [Timing("score", "executor", 0, 900, 4), *executor(3, (30, 3), stage="score/heavy")],
            {"executor/m:2": (30.0, 3)},
        ),
        # A service that tells nothing.
        ([Timing("finish", "postprocessing", 0, 100, 4)], {}),
    ],
)
def test_work_by_service(timings: list[Timing], expected: dict[str, tuple[float, int]]) -> None:
    found = busy(timings)
    assert {name: (pytest.approx(us), rows) for name, (us, rows) in expected.items()} == found


def test_rows_of_batches_share_their_own_batch_s_time() -> None:
    batches = [executor(2, (40, 2)), executor(1, (70, 1))]
    [total, model] = busy_columns(list(map(busy, batches)), np.array([2, 1]), np.zeros(3, bool))
    assert model.name == "@busy_us/executor/m:2"
    assert model.array.tolist() == [20.0, 20.0, 70.0]
    assert total.array.tolist() == [20, 20, 70]


def test_kept_answers_cost_only_what_ran_before_the_cache() -> None:
    batches = [[*features(4, 80), *executor(1, (50, 1))], features(1, 10)]
    cached = np.array([True, False, True, True, True])
    columns = {
        c.name: c.array.tolist() for c in busy_columns(list(map(busy, batches)), np.array([4, 1]), cached)
    }
    assert columns["@busy_us/executor/m:2"] == [0.0, 50.0, 0.0, 0.0, 0.0]
    assert columns["@busy_us/features"] == [20.0, 20.0, 20.0, 20.0, 10.0]
    assert columns["@busy_us"] == [20, 70, 20, 20, 10]


def test_without_timings_nothing_is_told() -> None:
    [total] = busy_columns([{}], np.array([2]), np.zeros(2, bool))
    assert total.array.tolist() == [0, 0]

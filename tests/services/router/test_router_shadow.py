"""Shadows come after the answer, on the same columns, and nothing of them reaches a caller; when they may run: the state machine,
the queue, the choice of requests."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import parse
from headrace.releases import LIVE, Arm, Release, Shadow
from headrace.releases.catalog import Released
from services.router.pipelines import Compiler, Served
from services.router.routes.observer import chosen_rows, size_of
from services.router.routes.run import RouteResult
from services.router.shadow.queue import Copied, ShadowQueue
from services.router.shadow.route import ShadowRoute
from services.router.shadow.run import portions
from services.router.shadow.shadows import Pace
from services.router.ticks.counters import Part
from tests.first_release import first_released
from tests.services.router.router_leaves import SCORED, Suite, batch_of, features, suite
from tests.services.router.test_router_events import running as told
from tests.services.router.test_router_routes import DOCUMENT, Multiplier
from tests.services.waiting import until


def live(pace: Pace, seconds: float, *, meets: bool) -> None:
    if meets:
        pace.stage_began()
    turn = pace.live_began()
    pace.live_ended(turn, seconds)
    if meets:
        pace.stage_ended()


def test_a_batch_meets_a_shadow_that_runs_begins_or_ends_meanwhile() -> None:
    pace = Pace()
    first = pace.live_began()
    pace.stage_began()
    second = pace.live_began()
    pace.live_ended(first, 0.1)
    pace.stage_ended()
    pace.live_ended(second, 0.2)
    third = pace.live_began()
    pace.live_ended(third, 0.3)
    failed = pace.live_began()
    pace.live_ended(failed, None)
    assert (list(pace._touched), list(pace._clean), pace.in_flight) == ([0.1, 0.2], [0.3], 0)


def test_shadows_rest_longer_while_live_batches_suffer_and_less_when_they_do_not() -> None:
    pace = Pace()
    for _ in range(300):
        live(pace, 0.010, meets=False)
        live(pace, 0.013, meets=True)
    assert pace.slowdown() == pytest.approx(0.3)
    rests = [pace.ran(float(now), 0.004) for now in range(1, 40)]
    assert rests == sorted(rests)
    assert pace.duty == 0.01
    for _ in range(300):
        live(pace, 0.0101, meets=True)
    for now in range(100, 200):
        pace.ran(float(now), 0.004)
    assert pace.duty == 0.5


def test_another_shadow_begins_low() -> None:
    pace = Pace()
    for now in range(1, 200):
        for _ in range(20):
            live(pace, 0.01, meets=False)
            live(pace, 0.01, meets=True)
        pace.ran(float(now), 0.001)
    assert (pace.duty, pace.rows) == (0.5, 64)
    pace.begin_anew()
    assert (pace.duty, pace.rows, pace.slowdown()) == (0.03, 16, None)


def test_with_too_little_known_the_duty_stays() -> None:
    pace = Pace()
    live(pace, 1.0, meets=True)
    assert pace.slowdown() is None
    assert pace.ran(1.0, 0.03) == pytest.approx(0.97)


def test_runs_become_as_large_as_their_time_allows() -> None:
    pace = Pace(max_rows=100)
    for _ in range(10):
        pace.ran(0.0, 0.001)
    assert pace.rows == 100
    for _ in range(10):
        pace.ran(0.0, 0.1)
    assert pace.rows == 8
    for _ in range(50):
        live(pace, 1.0, meets=False)
    pace.ran(0.0, 0.1)
    assert pace.rows == 16
    assert Pace(max_rows=3, rows=3).rows == 3


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.floats(0, 10)), max_size=200))
def test_whatever_happens_duty_and_size_keep_their_bounds(steps: list[tuple[bool, float, float]]) -> None:
    pace, now = Pace(), 0.0
    for meets, live_s, shadow_s in steps:
        live(pace, live_s, meets=meets)
        now += 1.0
        rest = pace.ran(now, shadow_s)
        assert 0 <= rest <= 99 * shadow_s + 1e-9
        assert 0.01 <= pace.duty <= 0.5
        assert 1 <= pace.rows <= pace.max_rows
    assert pace.in_flight == 0


names = st.lists(st.text("abc", max_size=3), max_size=50)


@given(names, st.floats(0, 1), st.text(max_size=5))
def test_all_rows_of_a_request_are_copied_or_none(ids: list[str], share: float, salt: str) -> None:
    rows = chosen_rows(ids, share, salt)
    if share == 1:
        assert rows is None
        return
    assert rows is not None
    chosen = {ids[i] for i in rows}
    assert rows.tolist() == [i for i, name in enumerate(ids) if name in chosen]
    more = chosen_rows(ids, min(share + 0.3, 0.999), salt)
    assert more is not None
    assert share > 0.999 or set(rows.tolist()) <= set(more.tolist())


def test_the_share_is_kept_and_salts_are_independent() -> None:
    ids = [f"request-{i}" for i in range(20_000)]
    one, other = chosen_rows(ids, 0.2, "a"), chosen_rows(ids, 0.2, "b")
    assert one is not None
    assert other is not None
    both = len(np.intersect1d(one, other))
    # Four standard deviations of the binomial.
    assert len(one) == pytest.approx(4000, abs=4 * math.sqrt(20_000 * 0.16))
    assert both == pytest.approx(800, abs=4 * math.sqrt(20_000 * 0.04 * 0.96))


def copied(rows: int, size: int) -> Copied:
    compiler = Compiler({"model": Multiplier})
    document = parse(DOCUMENT.replace("NAME", "times2"), "d.yaml")
    live_route = compiler.compile(first_released(document)).routes[0]
    context = Rows.one_request(rows, "r", "t", time.monotonic() + 9)
    batch = Batch.of(context, [Column.of("x", np.zeros(rows, np.float32))])
    shadow = ShadowRoute(compiler.shadow_route("next", document))
    part = Part(live_route.name, document, batch, batch)
    return Copied(shadow, live_route, part, RouteResult(batch, [], []), None, size)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 100), st.booleans()), max_size=60))
def test_the_queue_is_bounded_and_in_order(steps: list[tuple[int, int, bool]]) -> None:
    queue, wanted = ShadowQueue(50, 200), list[Copied]()
    for rows, size, takes in steps:
        one = copied(rows, size)
        refusal = queue.refusal(rows, size)
        if not refusal:
            queue.put(one)
            wanted.append(one)
        else:
            full = sum(len(w) for w in wanted) + rows > 50
            assert refusal == ("queue_rows" if full else "queue_bytes")
        if takes and wanted:
            assert queue.take(1) == [wanted.pop(0)]
        assert (queue.rows, queue.bytes) == (sum(map(len, wanted)), sum(w.size for w in wanted))
        assert queue.rows <= 50
        assert queue.bytes <= 200


def test_batches_on_the_same_routes_are_taken_together() -> None:
    queue, one = ShadowQueue(100, 1000), copied(3, 1)
    for rows in (3, 4, 5):
        other = copied(rows, 1)
        queue.put(replace(other, shadow=one.shadow, live=one.live))
    queue.put(copied(1, 1))
    assert [len(c) for c in queue.take(8)] == [3, 4]
    assert [len(c) for c in queue.take(100)] == [5]
    assert [len(c) for c in queue.take(100)] == [1]
    assert (queue.rows, queue.bytes) == (0, 0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 20))
def test_portions_have_all_rows_once_and_no_more_than_wanted(counts: list[int], most: int) -> None:
    batches = [copied(n, 1) for n in counts]
    found = list(portions(batches, most))
    assert all(len(p) <= most for p in found)
    for batch in batches:
        rows = [r for p in found for c, r in zip(p.copied, p.rows, strict=True) if c is batch]
        assert np.concatenate(rows).tolist() == list(range(len(batch)))


def test_the_size_of_a_batch_is_that_of_its_values() -> None:
    columns = [Column.of("x", np.zeros(3)), Column.of_text("k", ["ab", "", "c"])]
    assert size_of(columns) == 27


Shadowed = Callable[..., None]
OTHER_MODEL = "name: adder", "name: other"


@pytest.fixture
def shadowed(monkeypatch: pytest.MonkeyPatch) -> Shadowed:
    """Gives every pipeline a shadow, as a release would: the same document with a text replaced."""

    def use(old: str, new: str, share: float = 1.0) -> None:
        compiled = Compiler.compile

        def compile_with(self: Compiler, found: Released) -> Served:
            arms = {LIVE: found.live, "next": parse(SCORED.replace(old, new), "next.yaml")}
            named = {n: Arm(version=p.version, revision=p.revision) for n, p in arms.items()}
            shadow = Shadow(arm="next", share=share)
            release = Release(pipeline=found.live.name, number=7, arms=named, shadow=shadow)
            return compiled(self, Released(arms, release))

        monkeypatch.setattr(Compiler, "compile", compile_with)

    return use


def ran(started: Suite, result: str = "answered") -> float:
    """So many rows ran on the shadow, with this result."""
    return started.sample("router_shadow_rows_total", pipeline="scored", result=result) or 0.0


def dropped(started: Suite, reason: str) -> float:
    return started.sample("router_shadow_dropped_rows_total", pipeline="scored", reason=reason) or 0.0


async def refuse_first(batch: Batch) -> Batch:
    error = RowError(Code.INVALID_ARGUMENT, Reason.REASON_STEP_FAILED, "no such key")
    return Batch(batch.rows, {c.name: c for c in features(batch)}, {0: error})


async def test_a_copy_runs_after_the_answer_and_has_events_of_its_own(
    tmp_path: Path, shadowed: Shadowed
) -> None:
    shadowed(*OTHER_MODEL)
    seen: list[Batch] = []

    async def see(batch: Batch) -> None:
        seen.append(batch)

    async with told(tmp_path) as world:
        started = world.started
        started.executor.models["other"] = see
        for request in ("one", "two"):
            reply = await started.ask("scored", batch_of(["ab", "abc"], [1.0, -9.0], request_id=request))
            assert reply.batch.columns["y"].array.tolist() == [3.0, -6.0]
            assert [d.route for d in reply.response.decisions] == ["live"]
        await until(lambda: sum(map(len, world.receiver.groups)) == 8)
        # Of the lowest priority and without a trace; with the values that the live run read: one call of the store each.
        assert {p for b in seen for p in b.rows.priorities} == {0}
        assert {t for b in seen for t in b.rows.traceparents} == {""}
        assert started.features.calls == [2] * 2
        # No second effect.
        assert started.sample("router_rows_total", pipeline="scored", code="OK") == ran(started) == 4
    found: dict[str, set[tuple[str, str, int, float]]] = {}
    for group in world.receiver.groups:
        columns, arm = group.batch.columns, group.header.arm
        assert (group.header.release, group.header.replayed) == (7, False)
        assert group.header.shadow_of == ("" if arm == "live" else "live")
        ids, rows = group.batch.rows.request_ids, columns["@row"].array.tolist()
        facts = zip(ids, rows, columns["y"].array.tolist(), strict=True)
        found.setdefault(arm, set()).update((group.header.models[0].model, *fact) for fact in facts)
    live = {("adder", r, i, y) for r in ("one", "two") for i, y in enumerate((3.0, -6.0))}
    assert found == {"live": live, "next": {("other", *fact[1:]) for fact in live}}


async def test_another_features_stage_reads_for_itself(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed("feature_service: users", "feature_service: people")
    async with suite(tmp_path, {"scored": SCORED}) as started:
        await started.ask("scored", batch_of(["ab"], [1.0]))
        await until(lambda: ran(started) == 1)
        assert started.features.calls == [1, 1]


async def test_rows_that_failed_in_the_store_fail_in_both(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    async with suite(tmp_path, {"scored": SCORED}) as started:
        started.features.hook = refuse_first
        await started.ask("scored", batch_of(["ab", "abc"], [1.0, 2.0]))
        await until(lambda: ran(started) == 1)
        assert (ran(started, "failed"), len(started.features.calls)) == (1, 1)


async def test_a_shadow_that_fails_costs_the_live_arm_nothing(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    tried = 0

    async def fail(batch: Batch) -> None:
        nonlocal tried
        tried += len(batch)
        raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "gone")

    async with told(tmp_path) as world:
        started = world.started
        started.executor.models["other"] = fail
        for i in range(40):
            reply = await started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
            assert not reply.batch.errors
        await until(lambda: sum(map(len, world.receiver.groups)) == 80)
        assert (ran(started, "failed"), ran(started)) == (40, 0)
        assert started.sample("hop_breaker_state", callee="executor", replica="0") == 0
        assert not started.sample("hop_retries_total", callee="executor", method="Execute")
    reasons = [
        r
        for g in world.receiver.groups
        if g.header.shadow_of
        for r in g.batch.columns["@reason"].array.tolist()
    ]
    # Each row once, until the shadow's own breaker opened.
    assert set(reasons) <= {Reason.REASON_UNREACHABLE, Reason.REASON_BREAKER_OPEN}
    assert tried == reasons.count(Reason.REASON_UNREACHABLE)


async def test_a_shadow_that_hangs_holds_up_nobody_and_what_does_not_fit_is_counted(
    tmp_path: Path, shadowed: Shadowed
) -> None:
    shadowed(*OTHER_MODEL)
    hangs = asyncio.Event()

    async def hang(batch: Batch) -> None:
        hangs.set()
        await asyncio.Event().wait()

    async with suite(tmp_path, {"scored": SCORED}, shadow={"max_waiting_rows": 10}) as started:
        started.executor.models["other"] = hang
        await started.ask("scored", batch_of(["ab", "c"], [1.0, 2.0], request_id="first"))
        await hangs.wait()
        for i in range(20):
            reply = await started.ask("scored", batch_of(["ab", "c"], [1.0, 2.0], request_id=f"r{i}"))
            assert not reply.batch.errors
        assert dropped(started, "queue_rows") == 30
    # The router stopped with a shadow in flight and five that waited, of two rows each.
    assert dropped(started, "stopped") == 12


async def test_only_the_share_is_copied(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL, share=0.3)
    async with told(tmp_path) as world:
        ids = [f"r{i}" for i in range(60)]
        for request in ids:
            await world.started.ask("scored", batch_of(["ab"], [1.0], request_id=request))
        wanted = chosen_rows(ids, 0.3, "shadow-next")
        assert wanted is not None
        await until(lambda: sum(map(len, world.receiver.groups)) == 60 + len(wanted))
    copied = [r for g in world.receiver.groups if g.header.shadow_of for r in g.batch.rows.request_ids]
    assert copied == [ids[i] for i in wanted]

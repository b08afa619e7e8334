"""When shadows may run: the state machine, the queue, the choice of requests."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, Rows
from headrace.pipeline import parse
from services.router.pipelines import Compiler
from services.router.routes.observer import chosen_rows, size_of
from services.router.routes.run import RouteResult
from services.router.shadow.queue import Copied, ShadowQueue
from services.router.shadow.route import ShadowRoute
from services.router.shadow.run import portions
from services.router.shadow.shadows import Pace
from services.router.ticks.counters import Part
from tests.first_release import first_released
from tests.services.router.test_router_routes import DOCUMENT, Multiplier


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

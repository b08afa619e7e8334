"""Outcomes and exposures joined, in any order, as often as they come."""

import random
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.ticks import Exposure
from services.monitoring.database import columns
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes import judged_keys
from services.monitoring.outcomes import store as store_module
from services.monitoring.outcomes.judged_keys import JudgedKeys
from services.monitoring.outcomes.records import Judged, Judgement, Outcome, OutcomeError, Recorded
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.outcomes.tables import OUTCOMES
from tests.services.monitoring.monitoring_outcomes import NOW, emptied, exposure, outcome

PAIRS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.integers(0, 1),
        st.sampled_from(["late", "code", "wrong", "revenue"]),
        st.sampled_from([0.0, 1.0, 2.0]),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    PAIRS, st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True), st.randoms(use_true_random=False)
)
def test_each_prediction_is_judged_once_whatever_comes_first(
    facts: Facts, reported: list[tuple[str, int, str, float]], exposed: list[str], draw: random.Random
) -> None:
    outcomes = [outcome(request, value, name, row) for request, row, name, value in reported]
    rows = [
        exposure(request, "live" if request < "d" else "candidate", row, late=1.0, code=2.0)
        for request in exposed
        for row in (0, 1)
    ]
    steps: list[Outcome | Exposure] = [*outcomes, *outcomes[:3], *rows, *rows[:2]]
    draw.shuffle(steps)
    store = OutcomeStore(emptied(facts))
    first: dict[tuple[str, int, str], float] = {}
    judged: dict[tuple[str, int], bool] = {}
    seen: set[tuple[str, int]] = set()
    arrived: list[tuple[str, int, str, float]] = []
    for step in steps:
        place = step.request_id, step.row
        if isinstance(step, Outcome):
            new = (*place, step.name) not in first
            differs = not new and first[*place, step.name] != step.value
            if new:
                first[*place, step.name] = step.value
                arrived.append((*place, step.name, step.value))
            assert store.record("acme", [step], NOW) == Recorded(
                int(new), int(new and place not in seen), int(not new and not differs), int(differs)
            )
        else:
            assert store.expose([step], NOW) == int(place not in seen)
            seen.add(place)
        for request, row, name, value in arrived:
            if (request, row) in seen and (request, row) not in judged and name != "revenue":
                predicted = {"late": 1.0, "code": 2.0}
                judged[request, row] = bool(value) if name == "wrong" else predicted[name] != value
    expected: dict[tuple[int, str], Judged] = {}
    for (request, _), wrong in judged.items():
        arm = 3, "live" if request < "d" else "candidate"
        so_far = expected.get(arm, Judged(0, 0))
        expected[arm] = Judged(so_far.rows + 1, so_far.wrong + wrong)
    assert store.judged("flights") == expected


def test_a_tenants_outcomes_never_meet_anothers_predictions(store: OutcomeStore) -> None:
    store.expose([exposure("r", tenant="other", late=1.0)], NOW)
    assert store.record("acme", [outcome("r", 0.0)], NOW) == Recorded(1, 1)
    assert store.judged("flights") == {}
    assert store.record("other", [outcome("r", 0.0)], NOW) == Recorded(1, 0)
    assert store.judged("flights") == {(3, "live"): Judged(1, 1)}


def test_releases_pipelines_and_arms_are_apart(store: OutcomeStore) -> None:
    store.expose(
        [
            exposure("a", release=2, late=1.0),
            exposure("b", release=4, late=1.0),
            exposure("c", pipeline="m", late=1.0),
        ],
        NOW,
    )
    store.record("acme", [outcome(r) for r in "abc"], NOW)
    assert store.judged("flights") == {(2, "live"): Judged(1, 0), (4, "live"): Judged(1, 0)}
    assert store.judged("flights", since=3) == {(4, "live"): Judged(1, 0)}
    assert store.judged("m") == {(3, "live"): Judged(1, 0)}


def test_a_key_is_wrong_once_in_whichever_arm(store: OutcomeStore) -> None:
    big = (1 << 64) - 1
    keys = JudgedKeys(store.judgements)
    made = [
        ("a", big, "live"),
        ("b", big, "candidate"),
        ("c", 5, "live"),
        ("d", 0, "live"),
        ("e", None, "live"),
    ]
    store.expose([exposure(r, arm, key=k, late=1.0) for r, k, arm in made], NOW)
    assert keys("flights", 0) == {}
    store.record("acme", [outcome("a", 0.0), outcome("b", 0.0), outcome("c", 1.0)], NOW)
    # The candidate's only row is of a key that the live arm had wrong before.
    assert keys("flights", 0) == {(3, "live"): Judged(2, 1)}
    store.record("acme", [outcome("d", 0.0), outcome("e", 0.0)], NOW)
    assert keys("flights", 0) == {(3, "live"): Judged(3, 2)}
    assert keys("flights", 4) == {}
    # Another process, or this one after a restart, comes to the same.
    assert JudgedKeys(store.judgements)("flights", 0) == keys("flights", 0)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["live", "b"]), st.booleans())), st.integers(1, 7)
)
def test_counts_of_keys_only_grow_with_each_read(rows: list[tuple[int, str, bool]], at_once: int) -> None:
    every = [Judgement(i + 1, 3, arm, key, wrong) for i, (key, arm, wrong) in enumerate(rows)]
    keys = JudgedKeys(lambda _p, _s, after, _m: every[after : after + at_once])
    before: dict[tuple[int, str], Judged] = {}
    for _ in range(len(rows) // at_once + 1):
        now = dict(keys("p", 1))
        assert all(now[arm].rows >= c.rows and now[arm].wrong >= c.wrong for arm, c in before.items())
        before = now
    fresh: Counter[tuple[str, bool]] = Counter()
    failed: set[int] = set()
    for key, arm, wrong in rows:
        if key not in failed:
            fresh[arm, wrong] += 1
            failed |= {key} if wrong else set()
    expected = {
        (3, a): Judged(fresh[a, False] + fresh[a, True], fresh[a, True]) for a in {arm for arm, _ in fresh}
    }
    assert before == expected


def test_rollouts_and_keys_that_are_told_apart_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged_keys, "MAX_KEYS", 2)
    counts = judged_keys.KeyCounts()
    counts.take([Judgement(i, 3, "live", i, True) for i in range(5)])
    assert (counts.counts, counts.after) == ({(3, "live"): Judged(2, 2)}, 4)
    asked: list[int] = []

    def read(_pipeline: str, since: int, after: int, _most: int) -> list[Judgement]:
        asked.append(after)
        return [Judgement(9, since, "a", 1, False)]

    keys = JudgedKeys(read)
    for since in (*range(judged_keys.MAX_ROLLOUTS + 1), 1, 0):
        keys("p", since)
    # The one that was not asked for longest was forgotten, the others are followed.
    assert asked == [0] * (judged_keys.MAX_ROLLOUTS + 1) + [9, 0]


def test_an_experiment_reads_units_and_values(store: OutcomeStore) -> None:
    store.expose([exposure("a", key=1), exposure("b", "candidate", key=2), exposure("c", "candidate")], NOW)
    store.record(
        "acme",
        [
            outcome("a", 2.5, "revenue", label=False),
            outcome("c", 4.0, "revenue", label=False),
            outcome("a", 1.0),
        ],
        NOW,
    )
    assert set(store.exposed("flights")) == {(1, "live"), (2, "candidate"), ("c", "candidate")}
    assert set(store.values("flights", "revenue")) == {(1, 2.5), ("c", 4.0)}
    assert store.exposed("flights", since=4) == []


def test_of_a_transaction_that_raises_nothing_stays(facts: Facts, store: OutcomeStore) -> None:
    store.record("acme", [outcome("a")], NOW)

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.delete(OUTCOMES))
        raise LookupError

    with pytest.raises(LookupError):
        facts.write(fail)
    assert store.record("acme", [outcome("a")], NOW) == Recorded(0, 0, repeated=1)


def test_old_rows_go_and_sums_stay(store: OutcomeStore) -> None:
    store.expose([exposure("a", late=1.0)], NOW - 100)
    store.record("acme", [outcome("a")], NOW - 100)
    store.expose([exposure("b", late=1.0)], NOW)
    assert store.sweep(NOW - 50, 1 << 30) == 2
    assert store.exposed("flights") == [("b", "live")]
    assert store.judged("flights") == {(3, "live"): Judged(1, 0)}
    assert store.record("acme", [outcome("a")], NOW) == Recorded(1, 1)


def test_the_newest_rows_stay_of_too_many(store: OutcomeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PER_STEP", 30)
    store.record("acme", [outcome(f"r{i}") for i in range(100)], NOW)
    store.expose([exposure("r99", late=1.0)], NOW)
    assert store.sweep(0.0, 40) == 60
    assert store.record("acme", [outcome("r60"), outcome("r59")], NOW) == Recorded(1, 1, repeated=1)
    assert store.sweep(0.0, 41) == 0
    assert store.sweep(0.0, 0) == 42


def test_what_can_not_be_of_an_output_is_refused_with_all_of_its_call(store: OutcomeStore) -> None:
    store.expose([exposure("a", late=1.0)], NOW)
    for value in (0.7, -0.5):
        given = [outcome("a", 0.5, "revenue"), outcome("a", value)]
        with pytest.raises(OutcomeError, match=rf"outcomes\[1\]\.number: late is .* {value} is neither"):
            store.record("acme", given, NOW)
    assert store.of_request("acme", "a") == []
    assert store.record("acme", [outcome("a", 0.5, "revenue"), outcome("b", 0.7)], NOW) == Recorded(2, 1)


def test_within_a_call_the_first_value_stays(store: OutcomeStore) -> None:
    same = [outcome("a"), outcome("a", 0.0), outcome("a"), outcome("b")]
    assert store.record("acme", same, NOW) == Recorded(2, 2, 1, 1)
    assert [o.value for o in store.of_request("acme", "a")] == [1.0]


def test_an_outcome_meets_the_exposure_that_is_being_stored(facts: Facts, store: OutcomeStore) -> None:
    with ThreadPoolExecutor(1) as threads:

        def expose(connection: sa.Connection) -> Future[Recorded]:
            store_module._expose(connection, [exposure("a", late=1.0)], NOW)
            other = threads.submit(store.record, "acme", [outcome("a")], NOW)
            wait([other], 0.2)  # it waits for the end of this transaction
            return other

        recorded = facts.write(expose).result()
    assert recorded == Recorded(1, 0)
    assert store.judged("flights") == {(3, "live"): Judged(1, 0)}

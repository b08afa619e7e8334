"""What outcomes say of predictions and experiments, and what is kept of both."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.releases import Experiment, Release, Rollout
from headrace.releases.document import LIVE
from services.monitoring.accuracy.records import Chosen, Maker, Prediction
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database import columns
from services.monitoring.database.facts import Facts
from services.monitoring.database.periodic import every
from services.monitoring.experiments import experiment_read_out, phase_began
from services.monitoring.outcomes.records import Judged, OutcomeError, Recorded, StorageError
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, Log, emptied, made, outcome
from tests.services.monitoring.rollout_simulation import CANARY, release_of

KEYS = st.sampled_from([None, -(1 << 63), 0, 5])


def test_a_tenants_outcomes_never_meet_anothers_predictions(facts: Facts, store: OutcomeStore) -> None:
    made(facts, "r", tenant="other")
    assert store.record("acme", [outcome("r", 0.0)], NOW) == Recorded(1, 1)
    assert store.judged("flights") == {}
    assert store.record("other", [outcome("r", 0.0)], NOW) == Recorded(1, 0)
    assert store.judged("flights") == {(3, "live"): Judged(1, 1)}


def test_releases_pipelines_and_arms_are_apart(facts: Facts, store: OutcomeStore) -> None:
    made(facts, "a", release=2)
    made(facts, "b", release=4)
    made(facts, "c", pipeline="m")
    # Chance sent none of these; what nothing compares counts for what is live.
    made(facts, "d", release=4, chosen=Chosen.BY_RULE)
    made(facts, "e", release=5, chosen=Chosen.ALONE)
    store.record("acme", [outcome(r) for r in "abcde"], NOW)
    one = Judged(1, 0)
    assert store.judged("flights") == {(2, "live"): one, (4, "live"): one, (5, "live"): one}
    assert store.judged("flights", since=5) == {(5, "live"): one}
    assert store.judged("m") == {(3, "live"): one}
    assert store.drawn("flights") == [("a", "live"), ("b", "live")]
    assert store.by_version() == {("m", "live", "m=1"): one, ("flights", "live", "m=1"): Judged(4, 0)}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(KEYS, st.sampled_from(["live", "b"]), st.integers(3, 5), st.booleans())),
    st.integers(1, 7),
)
def test_each_key_counts_until_it_is_wrong_in_any_arm_of_the_releases(
    facts: Facts, rows: list[tuple[int | None, str, int, bool]], at_once: int
) -> None:
    store = OutcomeStore(emptied(facts))
    for i, (key, arm, release, _) in enumerate(rows):
        made(facts, str(i), arm=arm, key=key, release=release)
    for start in range(0, len(rows), at_once):
        part = [outcome(str(i), float(not rows[i][3])) for i in range(start, min(start + at_once, len(rows)))]
        store.record("acme", part, NOW)
    for since in (0, 4):
        expected: dict[tuple[int, str], Judged] = {}
        failed: set[int] = set()
        for key, arm, release, wrong in rows:
            if key is not None and release >= since and key not in failed:
                before = expected.get((release, arm), Judged(0, 0))
                expected[release, arm] = Judged(before.rows + 1, before.wrong + wrong)
                failed |= {key} if wrong else set()
        assert store.judged_keys("flights", since) == expected


def test_an_experiment_reads_units_and_values(facts: Facts, store: OutcomeStore) -> None:
    made(facts, "a", key=1)
    made(facts, "b", arm="candidate", key=2)
    made(facts, "c", arm="candidate")
    made(facts, "d", chosen=Chosen.BY_RULE)
    revenue = [outcome(r, v, "revenue", label=False) for r, v in (("a", 2.5), ("c", 4.0), ("d", 9.0))]
    store.record("acme", [*revenue, outcome("a", 1.0)], NOW)
    assert set(store.drawn("flights")) == {(1, "live"), (2, "candidate"), ("c", "candidate")}
    assert set(store.values("flights", "revenue")) == {(1, 2.5), ("c", 4.0)}
    assert store.drawn("flights", since=4) == []


def test_the_newest_rows_stay_of_too_many(
    facts: Facts, store: OutcomeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "PER_STEP", 30)
    store.record("acme", [outcome(f"r{i}") for i in range(100)], NOW)
    made(facts, "r99")
    # Others are many, and push none of those out that are compared.
    made(facts, *(f"s{i}" for i in range(50)), chosen=Chosen.ALONE)
    assert store.sweep(0.0, 40) == 60 + 10
    assert store.record("acme", [outcome("r60"), outcome("r59")], NOW) == Recorded(1, 2, repeated=1)
    assert store.drawn("flights") == [("r99", "live")]
    assert store.sweep(0.0, 41) == 0
    assert store.sweep(0.0, 0) == 82


def test_what_can_not_be_of_an_output_is_refused_with_all_of_its_call(
    facts: Facts, store: OutcomeStore
) -> None:
    made(facts, "a")
    for value in (0.7, -0.5):
        given = [outcome("a", 0.5, "revenue"), outcome("a", value)]
        with pytest.raises(OutcomeError, match=rf"outcomes\[1\]\.number: late is .* {value} is neither"):
            store.record("acme", given, NOW)
    assert store.of_request("acme", "a") == []
    assert store.record("acme", [outcome("a", 0.5, "revenue"), outcome("b", 0.7)], NOW) == Recorded(2, 1)


def test_within_a_call_the_first_value_stays(store: OutcomeStore) -> None:
    same = [outcome("a"), outcome("a", 0.0), outcome("a"), outcome("b")]
    assert store.record("acme", same, NOW) == Recorded(2, 4, 1, 1)
    assert [o.value for o in store.of_request("acme", "a")] == [1.0]


def test_an_outcome_meets_the_prediction_that_is_being_stored(facts: Facts, store: OutcomeStore) -> None:
    accuracy, maker = AccuracyStore(facts, 3600.0), Maker("flights", 3, "live", "m=1")
    with ThreadPoolExecutor(1) as threads:

        def add(connection: sa.Connection) -> Future[Recorded]:
            accuracy._add(connection, {maker: [Prediction("acme", "a", 0, NOW, {"late": 1.0})]}, NOW)
            other = threads.submit(store.record, "acme", [outcome("a")], NOW)
            wait([other], 0.2)  # it waits for the end of this transaction
            return other

        recorded = facts.write(add).result()
    assert recorded == Recorded(1, 0)
    assert store.judged("flights") == {(3, "live"): Judged(1, 0)}


async def test_work_goes_on_whatever_fails_and_the_database_says_itself_what_fails_in_it() -> None:
    log, errors = Log(), iter([StorageError("full"), ValueError("odd"), asyncio.CancelledError()])

    async def work() -> None:
        raise next(errors)

    with pytest.raises(asyncio.CancelledError):
        await every(0.0, work, "removal", log)
    assert log.lines == [("periodic work failed", {"work": "removal", "error": "ValueError: odd"})]


def history(*phases: int | None) -> list[Release]:
    """Releases 1, 2, … of these phases, newest first."""
    base = release_of(Rollout(arm=CANARY)).model_copy(update={"pipeline": "flights", "rollout": None})
    weights = base.assign.model_copy(update={"weights": {LIVE: 0.5, CANARY: 0.5}})
    found = []
    for number, phase in enumerate(phases, 1):
        experiment = None
        if phase is not None:
            experiment = Experiment(name="e", arms=(LIVE, CANARY), outcome="revenue", phase=phase)
        found.append(base.model_copy(update={"number": number, "assign": weights, "experiment": experiment}))
    return found[::-1]


def test_a_phase_begins_with_its_first_release() -> None:
    assert phase_began([]) is None
    assert phase_began(history(1, None)) is None
    assert phase_began(history(None, 1, 1)) == 2
    assert phase_began(history(1, 1, 2, 2)) == 3
    assert phase_began(history(1)) == 1


def test_of_an_earlier_phase_nothing_is_mixed_in(facts: Facts, store: OutcomeStore) -> None:
    made(facts, "old", arm=CANARY, key=0, release=1)
    made(facts, "r0", key=0)
    crossed = [experiment_read_out(history(*phases), store) for phases in ((1, 1, 1), (1, 1, 2))]
    assert [found.crossed for found in crossed if found] == [1, 0]
    assert experiment_read_out(history(None), store) is None

"""Outcomes and exposures joined, in any order, as often as they come."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ticks import Exposure
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.records import Judged, Outcome, Recorded
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, Log, exposure, outcome, store_at

PAIRS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.integers(0, 1),
        st.sampled_from(["late", "code", "wrong", "revenue"]),
        st.sampled_from([0.0, 1.0, 2.0]),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(
    PAIRS, st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True), st.randoms(use_true_random=False)
)
def test_each_prediction_is_judged_once_whatever_comes_first(
    reported: list[tuple[str, int, str, float]], exposed: list[str], draw: random.Random
) -> None:
    outcomes = [outcome(request, value, name, row) for request, row, name, value in reported]
    rows = [
        exposure(request, "live" if request < "d" else "candidate", row, late=1.0, code=2.0)
        for request in exposed
        for row in (0, 1)
    ]
    steps: list[Outcome | Exposure] = [*outcomes, *outcomes[:3], *rows, *rows[:2]]
    draw.shuffle(steps)
    store = store_at(None)
    first: dict[tuple[str, int, str], float] = {}
    judged: dict[tuple[str, int], bool] = {}
    seen: set[tuple[str, int]] = set()
    arrived: list[tuple[str, int, str, float]] = []
    for step in steps:
        place = step.request_id, step.row
        if isinstance(step, Outcome):
            new = (*place, step.name) not in first
            if new:
                first[*place, step.name] = step.value
                arrived.append((*place, step.name, step.value))
            assert store.record("acme", [step], NOW) == Recorded(int(new), int(new and place not in seen))
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
    store.close()


def test_a_tenants_outcomes_never_meet_anothers_predictions() -> None:
    store = store_at(None)
    store.expose([exposure("r", tenant="other", late=1.0)], NOW)
    assert store.record("acme", [outcome("r", 0.0)], NOW) == Recorded(1, 1)
    assert store.judged("flights") == {}
    assert store.record("other", [outcome("r", 0.0)], NOW) == Recorded(1, 0)
    assert store.judged("flights") == {(3, "live"): Judged(1, 1)}


def test_releases_pipelines_and_arms_are_apart() -> None:
    store = store_at(None)
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


def test_sticky_keys_are_judged_as_one() -> None:
    store = store_at(None)
    big = (1 << 64) - 1
    store.expose([exposure(r, key=k, late=1.0) for r, k in (("a", big), ("b", big), ("c", 5), ("d", 0))], NOW)
    store.record("acme", [outcome("a", 1.0), outcome("b", 0.0), outcome("c", 1.0)], NOW)
    assert store.judged_keys("flights") == {"live": Judged(2, 1)}


def test_an_experiment_reads_units_and_values() -> None:
    store = store_at(None)
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


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "outcomes.sqlite"
    store = store_at(path)
    store.record("acme", [outcome("a", 0.0)], NOW)
    store.close()
    again = store_at(path)
    assert again.record("acme", [outcome("a", 0.0)], NOW) == Recorded(0, 0)
    again.expose([exposure("a", late=1.0)], NOW)
    assert again.judged("flights") == {(3, "live"): Judged(1, 1)}


def test_two_processes_may_share_the_file(tmp_path: Path) -> None:
    one, other = store_at(tmp_path / "o"), store_at(tmp_path / "o")
    one.expose([exposure("a", late=1.0)], NOW)
    assert other.record("acme", [outcome("a")], NOW) == Recorded(1, 0)
    assert one.judged("flights") == {(3, "live"): Judged(1, 0)}


def test_of_a_transaction_that_raises_nothing_stays(tmp_path: Path) -> None:
    database = Database(tmp_path / "o", Log())
    store = OutcomeStore(database)
    store.record("acme", [outcome("a")], NOW)

    def fail() -> None:
        with database.transaction() as connection:
            connection.execute("DELETE FROM outcomes")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert store.record("acme", [outcome("a")], NOW) == Recorded(0, 0)


def test_old_rows_go_and_sums_stay(tmp_path: Path) -> None:
    store = store_at(tmp_path / "o")
    store.expose([exposure("a", late=1.0)], NOW - 100)
    store.record("acme", [outcome("a")], NOW - 100)
    store.expose([exposure("b", late=1.0)], NOW)
    assert store.sweep(NOW - 50, 1 << 30) == 2
    assert store.exposed("flights") == [("b", "live")]
    assert store.judged("flights") == {(3, "live"): Judged(1, 0)}
    assert store.record("acme", [outcome("a")], NOW) == Recorded(1, 1)


def test_the_file_stays_below_its_limit_and_the_newest_rows_stay(tmp_path: Path) -> None:
    store = store_at(tmp_path / "o")
    for start in range(0, 20_000, 1000):
        store.record("acme", [outcome(f"request-{i:030d}") for i in range(start, start + 1000)], NOW)
    limit = store.size_bytes() // 2
    assert store.sweep(0.0, limit) > 0
    assert store.size_bytes() <= limit
    assert (
        store.record("acme", [outcome(f"request-{19_999:030d}"), outcome(f"request-{0:030d}")], NOW).new == 1
    )
    assert store.sweep(0.0, limit) in (0, 1) or store.size_bytes() <= limit


@pytest.mark.parametrize("limit", [1])
def test_a_limit_that_nothing_fits_in_ends(tmp_path: Path, limit: int) -> None:
    store = store_at(tmp_path / "o")
    store.record("acme", [outcome("a"), outcome("b")], NOW)
    assert store.sweep(0.0, limit) == 2

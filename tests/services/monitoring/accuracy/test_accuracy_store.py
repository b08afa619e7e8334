"""Accuracy equals what is computed offline from all that was reported: late, repeated, contradictory, in any order."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.monitoring.accuracy.records import Chosen, Maker, Prediction
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import Judged, Recorded
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, emptied, outcome

HOUR_S = 3600.0
LIVE = Maker("flights", 3, "live", "m=1 (abc)")
OTHER = Maker("flights", 4, "live", "m=2 (abc)")
PLACES = st.tuples(st.sampled_from("abcd"), st.integers(0, 1))
NAMES, VALUES = st.sampled_from(["late", "code", "wrong", "revenue"]), st.sampled_from([0.0, 1.0, 2.0])


class Stores:
    """Both stores of one database, as the service has them."""

    def __init__(self, facts: Facts) -> None:
        self.outcomes = OutcomeStore(facts)
        self.accuracy = AccuracyStore(facts, HOUR_S)


@pytest.fixture
def stores(facts: Facts) -> Stores:
    return Stores(facts)


def prediction(request: str, row: int = 0, at: float = NOW, expected: float | None = None) -> Prediction:
    return Prediction("acme", request, row, at, {"late": 1.0, "code": 2.0}, expected)


@dataclass
class Offline:
    """The same by hand: of the outcomes of a prediction the first counts that says whether it was wrong."""

    made: dict[tuple[str, int], tuple[Maker, float]] = field(default_factory=dict)
    values: dict[tuple[tuple[str, int], str], float] = field(default_factory=dict)
    contradictions: Counter[tuple[str, int]] = field(default_factory=Counter)

    def record(self, place: tuple[str, int], name: str, value: float) -> Recorded:
        new = (place, name) not in self.values
        differs = self.values.setdefault((place, name), value) != value
        self.contradictions[place] += differs
        return Recorded(new, place not in self.made, not new and not differs, differs)

    def windows(self) -> dict[tuple[str, float], list[int]]:
        """(version, start) → predictions, labelled, wrong, contradictions."""
        found: dict[tuple[str, float], list[int]] = {}
        for place, (maker, at) in self.made.items():
            sums = found.setdefault((maker.version, at // HOUR_S * HOUR_S), [0] * 4)
            predicted = {"late": 1.0, "code": 2.0, "wrong": 0.0}
            said = (
                v != predicted[name]
                for (of, name), v in self.values.items()
                if of == place and name in predicted
            )
            wrong = next(said, None)
            more = 1, wrong is not None, bool(wrong), self.contradictions[place]
            sums[:] = [a + b for a, b in zip(sums, more, strict=True)]
        return found


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(PLACES, NAMES, VALUES), max_size=30),
    st.lists(PLACES, unique=True),
    st.randoms(use_true_random=False),
)
def test_each_prediction_is_judged_once_whatever_comes_first(
    facts: Facts,
    reported: list[tuple[tuple[str, int], str, float]],
    made: list[tuple[str, int]],
    draw: random.Random,
) -> None:
    offline, stores = Offline(), Stores(emptied(facts))
    predictions = [prediction(*place, NOW + HOUR_S * (place[0] > "b")) for place in [*made, *made[:2]]]
    steps: list[Prediction | tuple[tuple[str, int], str, float]] = [*reported, *predictions]
    draw.shuffle(steps)
    for step in steps:
        if isinstance(step, Prediction):
            place, maker = (step.request_id, step.row), LIVE if step.time == NOW else OTHER
            assert stores.accuracy.add({maker: [step]}, NOW) == (place not in offline.made)
            offline.made[place] = maker, step.time
        else:
            place, name, value = step
            recorded = stores.outcomes.record("acme", [outcome(place[0], value, name, place[1])], NOW)
            assert recorded == offline.record(place, name, value)
    windows = {
        (version.version, w.start): [w.rows, w.labelled, w.wrong, w.contradictions]
        for version in stores.accuracy.windows(0)
        for w in version.windows
    }
    assert windows == offline.windows()
    judged = {
        (int(version[2]) + 2, "live"): Judged(n, wrong) for (version, _), (_, n, wrong, _) in windows.items()
    }
    assert stores.outcomes.judged("flights") == {arm: found for arm, found in judged.items() if found.rows}


def test_two_processes_that_share_the_database_judge_each_prediction_once(facts: Facts) -> None:
    one, other = Stores(facts), Stores(facts)
    one.accuracy.add({LIVE: [prediction("a"), prediction("b", expected=0.75)]}, NOW)
    other.outcomes.record("acme", [outcome("a", 0.0), outcome("b"), outcome("c")], NOW)
    other.accuracy.add({LIVE: [prediction("c")], OTHER: [prediction("a")]}, NOW)
    assert one.outcomes.judged("flights") == {(3, "live"): Judged(3, 1)}
    assert other.outcomes.by_version() == {("flights", "live", "m=1 (abc)"): Judged(3, 1)}
    [version] = one.accuracy.windows(0, "flights")
    assert (version.windows[0].expected_rows, version.windows[0].expected) == (1, 0.75)
    assert one.accuracy.windows(0, "moderation") == []


def test_rows_that_failed_are_units_and_no_part_of_accuracy(stores: Stores) -> None:
    failed = LIVE._replace(version="", chosen=Chosen.BY_CHANCE)
    stores.accuracy.add({failed: [prediction("a")]}, NOW)
    stores.outcomes.record("acme", [outcome("a", 1.0, "wrong")], NOW)
    assert stores.outcomes.drawn("flights") == [("a", "live")]
    assert stores.outcomes.judged("flights") == {(3, "live"): Judged(1, 1)}
    assert (stores.accuracy.windows(0), stores.outcomes.by_version()) == ([], {})


def test_old_windows_and_the_oldest_predictions_go_and_sums_stay(stores: Stores) -> None:
    stores.accuracy.add({LIVE: [prediction(f"r{i}") for i in range(10)]}, NOW)
    stores.outcomes.record("acme", [outcome("r0", 0.0), outcome("r1")], NOW)
    stores.outcomes.sweep(0, max_rows=4)
    stores.outcomes.record("acme", [outcome("r5"), outcome("r6")], NOW)
    assert stores.outcomes.judged("flights") == {(3, "live"): Judged(3, 1)}, "r5 had gone"
    stores.accuracy.sweep(NOW + HOUR_S)
    assert stores.accuracy.windows(0) == []
    # All rows go.
    stores.outcomes.sweep(NOW + 1, 1 << 30)
    stores.accuracy.add({LIVE: [prediction("new")]}, NOW + 2)
    stores.outcomes.record("acme", [outcome("new")], NOW + 2)
    assert stores.outcomes.judged("flights") == {(3, "live"): Judged(4, 1)}

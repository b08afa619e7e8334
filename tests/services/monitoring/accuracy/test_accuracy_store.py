"""Accuracy equals what is computed offline from all that was reported: late, repeated, contradictory, in any order."""

import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.monitoring.accuracy.figures import figures
from services.monitoring.accuracy.records import Maker, Prediction
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import Judged, OutcomeError, Recorded
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, emptied, outcome

HOUR_S = 3600.0
LIVE = Maker("flights", 3, "live", "m=1 (abc)")
OTHER = Maker("flights", 4, "live", "m=2 (abc)")


class Stores:
    """Both stores of one database, as the service has them."""

    def __init__(self, facts: Facts) -> None:
        self.outcomes = OutcomeStore(facts)
        self.accuracy = AccuracyStore(facts, HOUR_S)

    def follow(self) -> None:
        while self.accuracy.follow():
            pass


@pytest.fixture
def stores(facts: Facts) -> Stores:
    return Stores(facts)


def prediction(
    request: str, label: float = 1.0, at: float = NOW, expected: float | None = None
) -> Prediction:
    return Prediction("acme", request, 0, at, {"late": label}, expected)


@dataclass
class Offline:
    """The same by hand: the first outcome of a prediction counts."""

    made: dict[str, tuple[Maker, float, float]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)

    def windows(self) -> dict[tuple[str, float], list[int]]:
        """(version, start) → predictions, labelled, wrong."""
        found: dict[tuple[str, float], list[int]] = defaultdict(lambda: [0, 0, 0])
        for request, (maker, label, at) in self.made.items():
            sums = found[maker.version, at // HOUR_S * HOUR_S]
            sums[0] += 1
            if request in self.first:
                sums[1] += 1
                sums[2] += self.first[request] != label
        return dict(found)


def stored(stores: Stores) -> dict[tuple[str, float], list[int]]:
    return {
        (version.version, window.start): [window.rows, window.labelled, window.wrong]
        for version in stores.accuracy.windows(0)
        for window in version.windows
    }


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 1.0])), max_size=30),
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.randoms(use_true_random=False),
)
def test_windows_equal_an_offline_computation_whatever_comes_first(
    facts: Facts, reported: list[tuple[str, float]], made: list[str], draw: random.Random
) -> None:
    offline, stores = Offline(), Stores(emptied(facts))
    steps: list[tuple[str, float] | str | None] = [*reported, *made, *made[:2], *[None] * 5]
    draw.shuffle(steps)
    repeated = contradictory = 0
    for step in steps:
        if step is None:
            stores.accuracy.follow()
        elif isinstance(step, str):
            maker, at = (LIVE, NOW) if step < "e" else (OTHER, NOW + HOUR_S)
            label = float(step in "aceg")
            new = stores.accuracy.add({maker: [prediction(step, label, at)]}, NOW)
            assert new == (step not in offline.made)
            offline.made[step] = (maker, label, at)
        else:
            new_ones = stores.outcomes.record("acme", [outcome(*step)], NOW)
            repeated += new_ones.repeated
            contradictory += new_ones.contradictory
            offline.first.setdefault(*step)
    stores.follow()
    assert stored(stores) == offline.windows()
    assert repeated + contradictory == len(reported) - len(offline.first)
    differ = [request for request, value in reported if offline.first[request] != value]
    assert contradictory == len(differ)
    found = figures(stores.accuracy.windows(0), HOUR_S, 0.5, NOW + 40 * HOUR_S)
    assert sum(f.contradictions for f in found) == sum(request in offline.made for request in differ)
    judged = sum(j.wrong for j in stores.accuracy.judged("flights").values())
    assert judged == sum(wrong for _, _, wrong in offline.windows().values())


def test_two_processes_that_share_the_database_judge_each_prediction_once(facts: Facts) -> None:
    one, other = Stores(facts), Stores(facts)
    one.accuracy.add({LIVE: [prediction("a"), prediction("b", expected=0.75)]}, NOW)
    other.outcomes.record("acme", [outcome("a", 0.0), outcome("b"), outcome("c")], NOW)
    one.follow()
    other.follow()
    other.accuracy.add({LIVE: [prediction("c")], OTHER: [prediction("a")]}, NOW)
    one.follow()
    assert one.accuracy.judged("flights") == {(3, "live"): Judged(3, 1)}
    assert one.accuracy.judged("flights", since=4) == {}
    assert other.accuracy.by_version() == {("flights", "live", "m=1 (abc)"): Judged(3, 1)}
    [version] = one.accuracy.windows(0, "flights")
    assert (version.windows[0].expected_rows, version.windows[0].expected) == (1, 0.75)
    assert one.accuracy.windows(0, "moderation") == []


def test_an_outcome_of_a_prediction_without_an_exposure_is_matched(stores: Stores) -> None:
    stores.accuracy.add({LIVE: [prediction("a")]}, NOW)
    assert stores.outcomes.record("acme", [outcome("a"), outcome("b")], NOW) == Recorded(2, 1)
    with pytest.raises(OutcomeError, match=r"0\.7 is neither"):
        stores.outcomes.record("acme", [outcome("a", 0.7)], NOW)


def test_a_tenants_outcomes_never_judge_anothers_predictions(stores: Stores) -> None:
    stores.accuracy.add({LIVE: [prediction("a")]}, NOW)
    stores.outcomes.record("other", [outcome("a", 0.0)], NOW)
    stores.outcomes.record("acme", [outcome("a", 7.0, "revenue")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {}


def test_old_windows_and_the_oldest_predictions_go_and_sums_stay(stores: Stores) -> None:
    stores.accuracy.add({LIVE: [prediction(f"r{i}") for i in range(10)]}, NOW)
    stores.outcomes.record("acme", [outcome("r0", 0.0), outcome("r1")], NOW)
    stores.follow()
    stores.outcomes.sweep(0, max_rows=4)
    stores.outcomes.record("acme", [outcome("r5"), outcome("r6")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(3, 1)}, "r5 had gone"
    stores.accuracy.sweep(NOW + HOUR_S)
    assert stores.accuracy.windows(0) == []
    stores.outcomes.record("acme", [outcome("r7")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(4, 1)}
    # All rows go.
    stores.outcomes.sweep(NOW + 1, 1 << 30)
    stores.accuracy.add({LIVE: [prediction("new")]}, NOW + 2)
    stores.outcomes.record("acme", [outcome("new")], NOW + 2)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(5, 1)}


def test_of_two_outcomes_that_say_whether_it_was_right_the_first_counts(stores: Stores) -> None:
    stores.accuracy.add({LIVE: [prediction("a"), prediction("b")]}, NOW)
    stores.outcomes.record("acme", [outcome("a", 1.0, "wrong"), outcome("a"), outcome("b")], NOW)
    stores.outcomes.record("acme", [outcome("b", 1.0, "wrong")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(2, 1)}

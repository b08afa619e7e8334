"""Accuracy equals what is computed offline from all that was reported: late, repeated, contradictory, in any order."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.accuracy.figures import figures
from services.monitoring.accuracy.records import Maker, Prediction
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.records import MAX_OUTCOMES, Judged, Outcome
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, Log, outcome

T = TypeVar("T")
HOUR_S = 3600.0
LIVE = Maker("flights", 3, "live", "m=1 (abc)")
OTHER = Maker("flights", 4, "live", "m=2 (abc)")


class Stores:
    """Both stores of one file, as the service has them."""

    def __init__(self, path: Path | None = None) -> None:
        database = Database(path, Log())
        self.outcomes = OutcomeStore(database)
        self.accuracy = AccuracyStore(database, HOUR_S)

    def follow(self) -> None:
        while self.accuracy.follow():
            pass


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


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 1.0])), max_size=30),
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.randoms(use_true_random=False),
)
def test_windows_equal_an_offline_computation_whatever_comes_first(
    reported: list[tuple[str, float]], made: list[str], draw: random.Random
) -> None:
    offline, stores = Offline(), Stores()
    steps: list[tuple[str, float] | str | None] = [*reported, *made, *made[:2], *[None] * 5]
    draw.shuffle(steps)
    repeated = contradictory = 0
    for step in steps:
        if step is None:
            stores.accuracy.follow()
        elif isinstance(step, str):
            maker, at = (LIVE, NOW) if step < "e" else (OTHER, NOW + HOUR_S)
            new = stores.accuracy.add({maker: [prediction(step, at=at)]}, NOW)
            assert new == (step not in offline.made)
            offline.made[step] = (maker, 1.0, at)
        else:
            found = stores.outcomes.record("acme", [outcome(*step)], NOW)
            repeated, contradictory = repeated + found.repeated, contradictory + found.contradictory
            offline.first.setdefault(*step)
    stores.follow()
    assert stored(stores) == offline.windows()
    assert repeated + contradictory == len(reported) - len(offline.first)
    assert contradictory == sum(offline.first[request] != value for request, value in reported)


def traffic(count: int, draw: random.Random) -> tuple[Offline, list[Prediction], list[tuple[float, Outcome]]]:
    """Predictions over six hours, and their outcomes by when they arrive: a fifth comes hours late, 5 % again, 1 % with another
    value. Of the last two hours half has no outcome."""
    offline, predictions, arrivals = Offline(), [], []
    for number in range(count):
        at = NOW + 6 * HOUR_S * number / count
        made = prediction(f"r{number}", float(draw.random() < 0.3), at)
        predictions.append(made)
        offline.made[made.request_id] = (LIVE, made.labels["late"], at)
        if number > count * 2 / 3 and draw.random() < 0.6:
            continue
        value = made.labels["late"] if draw.random() < 0.8 else 1 - made.labels["late"]
        arrives = at + (draw.uniform(1, 24) * HOUR_S if draw.random() < 0.2 else draw.uniform(1, 300))
        arrivals.append((arrives, outcome(made.request_id, value)))
        fate = draw.random()
        if fate < 0.06:
            again = value if fate < 0.05 else 1 - value
            arrivals.append((arrives + draw.uniform(1, HOUR_S), outcome(made.request_id, again)))
    arrivals.sort(key=lambda pair: pair[0])
    return offline, predictions, arrivals


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as a call may hold."""
    return (items[i : i + MAX_OUTCOMES] for i in range(0, len(items), MAX_OUTCOMES))


def replay(
    stores: Stores, predictions: Sequence[Prediction], arrivals: Sequence[tuple[float, Outcome]]
) -> tuple[int, int]:
    """As they would come in time; returns how many were repeated and contradictory."""
    steps: list[tuple[float, Sequence[Prediction], Sequence[Outcome]]] = [
        *((part[-1].time, part, ()) for part in parts(predictions)),
        *((part[-1][0], (), [o for _, o in part]) for part in parts(arrivals)),
    ]
    repeated = contradictory = 0
    for now, made, outcomes in sorted(steps, key=lambda step: step[0]):
        if made:
            stores.accuracy.add({LIVE: made}, now)
        found = stores.outcomes.record("acme", outcomes, now)
        repeated, contradictory = repeated + found.repeated, contradictory + found.contradictory
        stores.accuracy.follow()
    stores.follow()
    return repeated, contradictory


def test_late_repeated_and_contradictory_outcomes_give_the_accuracy_of_an_offline_computation(
    tmp_path: Path,
) -> None:
    count = 100_000
    offline, predictions, arrivals = traffic(count, random.Random(7))
    stores = Stores(tmp_path / "o")
    repeated, contradictory = replay(stores, predictions, arrivals)
    for _, reported in arrivals:
        offline.first.setdefault(reported.request_id, reported.value)
    again = len(arrivals) - len(offline.first)
    differ = sum(offline.first[o.request_id] != o.value for _, o in arrivals)
    assert (repeated, contradictory) == (again - differ, differ)
    assert contradictory > count / 200

    expected = offline.windows()
    assert stored(stores) == expected
    [found] = figures(stores.accuracy.windows(0), HOUR_S, 0.5, NOW + 40 * HOUR_S)
    told = [sums for sums in expected.values() if sums[1] >= 0.5 * sums[0]]
    assert 0 < len(told) < len(expected), "windows with too few labels take no part"
    labelled, wrong = sum(s[1] for s in told), sum(s[2] for s in told)
    assert found.accuracy == 1 - wrong / labelled
    assert (found.labelled, found.wrong, found.told, found.windows) == (
        labelled,
        wrong,
        len(told),
        len(expected),
    )
    assert found.coverage == sum(s[1] for s in expected.values()) / count
    assert found.contradictions == contradictory
    assert stores.accuracy.judged("flights") == {
        (3, "live"): Judged(sum(s[1] for s in expected.values()), sum(s[2] for s in expected.values()))
    }


def test_two_processes_that_share_the_file_judge_each_prediction_once(tmp_path: Path) -> None:
    one, other = Stores(tmp_path / "o"), Stores(tmp_path / "o")
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


def test_a_tenants_outcomes_never_judge_anothers_predictions() -> None:
    stores = Stores()
    stores.accuracy.add({LIVE: [prediction("a")]}, NOW)
    stores.outcomes.record("other", [outcome("a", 0.0)], NOW)
    stores.outcomes.record("acme", [outcome("a", 7.0, "revenue")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {}


def test_old_windows_and_the_oldest_predictions_go_and_sums_stay() -> None:
    stores = Stores()
    stores.accuracy.add({LIVE: [prediction(f"r{i}") for i in range(10)]}, NOW)
    stores.outcomes.record("acme", [outcome("r0", 0.0), outcome("r1")], NOW)
    stores.follow()
    stores.accuracy.sweep(0, most_rows=4)
    stores.outcomes.record("acme", [outcome("r5"), outcome("r6")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(3, 1)}, "r5 had gone"
    stores.accuracy.sweep(NOW + HOUR_S, most_rows=4)
    assert stores.accuracy.windows(0) == []
    stores.outcomes.record("acme", [outcome("r7")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(4, 1)}
    # All rows go, and ids begin anew.
    stores.outcomes.sweep(NOW + 1, 1 << 30)
    stores.accuracy.add({LIVE: [prediction("new")]}, NOW + 2)
    stores.outcomes.record("acme", [outcome("new")], NOW + 2)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(5, 1)}


def test_of_two_outcomes_that_say_whether_it_was_right_the_first_counts() -> None:
    stores = Stores()
    stores.accuracy.add({LIVE: [prediction("a"), prediction("b")]}, NOW)
    stores.outcomes.record("acme", [outcome("a", 1.0, "wrong"), outcome("a"), outcome("b")], NOW)
    stores.outcomes.record("acme", [outcome("b", 1.0, "wrong")], NOW)
    stores.follow()
    assert stores.accuracy.judged("flights") == {(3, "live"): Judged(2, 1)}

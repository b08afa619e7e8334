"""Whether what is live is wrong more often than what was live before it."""

import random

import pytest
from prometheus_client import CollectorRegistry

from headrace.analysis import Count
from headrace.releases import LIVE, Arm, Assignment, Release, Rollout
from services.monitoring.outcomes.records import Judged
from services.monitoring.outcomes.succession import ALPHA, Succession, live_spans, succession
from services.monitoring.outcomes.succession_watch import SuccessionMetrics, SuccessionWatch
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.monitoring.rollout_simulation import CANARY, release_of


def arm(version: int) -> Arm:
    return Arm(version=1, revision="0" * 64, models={"m": str(version)})


def history(*live: int, canaries: dict[int, int] | None = None) -> list[Release]:
    """Releases 1, 2, … with these live versions, newest first. `canaries`: number → the version of an arm beside."""
    found = []
    for number, version in enumerate(live, 1):
        arms = {LIVE: arm(version)}
        weights = {LIVE: 1.0}
        if canaries and number in canaries:
            arms["canary"] = arm(canaries[number])
            weights = {LIVE: 0.5, "canary": 0.5}
        changes = {"number": number, "arms": arms, "assign": Assignment(weights=weights), "rollout": None}
        found.append(release_of(Rollout(arm=CANARY)).model_copy(update=changes))
    return found[::-1]


def judged(**counts: tuple[int, int]) -> dict[tuple[int, str], Judged]:
    """r3live=(rows, wrong)."""
    return {(int(name[1]), name[2:]): Judged(*count) for name, count in counts.items()}


def test_the_releases_of_today_s_live_arm_and_of_the_one_before() -> None:
    assert live_spans(history(1, 1, 2, 2)) == ({3, 4}, {1, 2})
    assert live_spans(history(1)) == ({1}, set())
    assert live_spans(history(1, 2, 1)) == ({3}, {2})
    assert live_spans(history(5, 1, 1, 2)) == ({4}, {2, 3})


def test_counts_of_all_releases_of_a_version_are_added_its_rollout_included() -> None:
    releases = history(1, 1, 2, 2, canaries={2: 2})
    counts = judged(r1live=(100, 5), r2live=(50, 2), r2canary=(50, 9), r3live=(40, 8), r4live=(60, 12))
    found = succession(releases, counts)
    assert found == Succession(3, Count(150, 29), Count(150, 7))
    # Other arms and older versions are not counted.
    releases = history(9, 1, 2, canaries={2: 7})
    counts = judged(r1live=(100, 99), r2live=(100, 1), r2canary=(100, 99), r3live=(100, 1))
    assert succession(releases, counts) == Succession(3, Count(100, 1), Count(100, 1))


def test_a_version_that_is_wrong_more_often_is_told_within_a_few_hundred_outcomes() -> None:
    assert Succession(2, Count(300, 90), Count(2000, 200)).worse()
    assert not Succession(2, Count(300, 30), Count(2000, 200)).worse()
    assert not Succession(2, Count(20, 6), Count(2000, 200)).worse()
    # Nor without outcomes of both.
    assert not Succession(2, Count(300, 300), Count(0, 0)).worse()
    assert not Succession(2, Count(0, 0), Count(300, 0)).worse()


def test_an_equal_version_is_not_called_worse_however_often_one_looks() -> None:
    alarms = 0
    for seed in range(40):
        chance = random.Random(seed)
        now = before = Count(0, 0)
        for _ in range(30):
            now = Count(now.rows + 100, now.bad + sum(chance.random() < 0.2 for _ in range(100)))
            before = Count(before.rows + 100, before.bad + sum(chance.random() < 0.2 for _ in range(100)))
            alarms += Succession(2, now, before).worse()
    assert alarms == 0
    assert ALPHA <= 1e-3


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_it_is_told_once_and_ends_with_the_rollback(registry: CollectorRegistry) -> None:
    log = Log()
    watch = SuccessionWatch(SuccessionMetrics(registry), log)

    def told() -> float | None:
        return registry.get_sample_value("headrace_outcomes_worse_than_before", {"pipeline": "p"})

    counts = judged(r1live=(2000, 100), r2live=(500, 150))
    watch.look("p", history(1, 2), counts)
    watch.look("p", history(1, 2), counts)
    assert told() == 1
    assert log.events == ["what is live is wrong more often than what was live before it"]
    assert log.lines[0][1]["now"] == "150 of 500"
    watch.look("p", history(1, 2, 1), {**counts, **judged(r3live=(10, 0))})
    assert told() == 0
    assert len(log.events) == 2
    watch.look("p", [], {})
    assert told() is None

"""The law of the HorizontalPodAutoscaler, by cases that follow from its controller's documentation and source."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.deployment.kubernetes import scalers
from load.autoscaling.law import SYNC_S, Autoscaler, Policy, Rules, from_demand, from_usage

FAST = Rules(0.0, (Policy("Pods", 100, 15.0),))
WHOLE = Rules(0.0, (Policy("Percent", 100, 15.0),))


@pytest.mark.parametrize(
    ("demand", "wanted"),
    [(2.4, 4), (2.63, 4), (2.65, 5), (2.17, 4), (2.1, 4), (1.8, 3), (12.0, 20), (0.0, 0)],
)
def test_a_demand_asks_for_a_size_outside_a_tenth_of_the_target(demand: float, wanted: int) -> None:
    assert from_demand(demand, 0.6, 4) == wanted


@pytest.mark.parametrize(
    ("ready", "unready", "missing", "wanted"),
    [
        # 1.5 times the target: each pod counts.
        ([0.9, 0.9], 0, 0, 3),
        # Pods that are not ready yet count as idle: those that were started are enough.
        ([0.9, 0.9], 2, 0, 4),
        # Twelve times the target: they are not enough.
        ([7.2, 7.2], 2, 0, 24),
        # Within a tenth of the target.
        ([0.65, 0.65], 0, 0, 2),
        # When it would shrink, those that are not ready are left out, and those without a value keep the size.
        ([0.3, 0.3], 2, 0, 1),
        ([0.3, 0.3], 0, 2, 3),
        # When it would grow, those without a value count as idle.
        ([0.9, 0.9], 0, 2, 4),
        ([], 4, 0, 4),
    ],
)
def test_usage_asks_for_a_size_by_the_pods_that_are_ready(
    ready: list[float], unready: int, missing: int, wanted: int
) -> None:
    replicas = len(ready) + unready + missing
    assert from_usage(ready, 0.6, replicas, unready=unready, missing=missing) == wanted


def test_it_shrinks_to_the_most_that_was_wanted_in_its_window() -> None:
    hpa = Autoscaler(1, 40, FAST, Rules(60.0, WHOLE.policies))
    assert hpa.decide(0, 4, 10) == 10
    assert hpa.decide(15, 10, 2) == 10
    assert hpa.decide(30, 10, 6) == 10
    assert hpa.decide(59, 10, 2) == 10
    assert hpa.decide(60, 10, 2) == 6
    assert hpa.decide(90, 6, 2) == 2


def test_it_grows_to_the_least_that_was_wanted_in_its_window() -> None:
    hpa = Autoscaler(1, 40, Rules(30.0, FAST.policies), WHOLE)
    assert hpa.decide(0, 4, 4) == 4
    assert hpa.decide(15, 4, 20) == 4
    assert hpa.decide(30, 4, 12) == 12


def test_the_policy_that_allows_most_limits_the_pace_within_its_period() -> None:
    up = Rules(0.0, (Policy("Percent", 100, 30.0), Policy("Pods", 4, 30.0)))
    hpa = Autoscaler(1, 40, up, Rules(0.0, (Policy("Percent", 50, 60.0),)))
    # Four pods are more than a hundred per cent of two.
    assert hpa.decide(0, 2, 30) == 6
    # Of the same period: it began with two.
    assert hpa.decide(15, 6, 30) == 6
    assert hpa.decide(30, 6, 30) == 12
    assert hpa.decide(90, 12, 1) == 6
    assert hpa.decide(105, 6, 1) == 6


def test_part_of_a_pod_counts_as_one_more_to_change() -> None:
    hpa = Autoscaler(
        1, 40, Rules(0.0, (Policy("Percent", 10, 15.0),)), Rules(0.0, (Policy("Percent", 50, 15.0),))
    )
    # Otherwise three could never grow by a tenth.
    assert hpa.decide(0, 3, 30) == 4
    assert hpa.decide(60, 7, 1) == 3


def test_it_stays_within_its_bounds() -> None:
    hpa = Autoscaler(2, 12, FAST, WHOLE)
    assert hpa.decide(0, 4, 100) == 12
    assert hpa.decide(15, 12, 0) == 2


@given(st.lists(st.integers(0, 60), min_size=1, max_size=200), st.floats(0, 600))
def test_a_longer_window_never_makes_more_turns(wanted: list[int], window: float) -> None:
    """Never more changes of direction than without a window, and never outside its bounds."""

    def turns(down: float) -> int:
        hpa = Autoscaler(2, 40, FAST, Rules(down, WHOLE.policies))
        size, directions = 2, []
        for n, each in enumerate(wanted):
            new = hpa.decide(n * SYNC_S, size, each)
            assert 2 <= new <= 40
            if new != size:
                directions.append(new > size)
            size = new
        return sum(a != b for a, b in pairwise(directions))

    assert turns(window) <= turns(0.0)


def test_what_is_not_simulated_is_refused() -> None:
    with pytest.raises(ValueError, match="Max"):
        Rules.of({**scalers.BEHAVIOR["scaleUp"], "selectPolicy": "Min"})

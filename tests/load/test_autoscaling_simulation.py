"""What the shipped autoscaling would do, with its own rules, windows and target: few changes of size, few rows turned away."""

from functools import cache

import pytest

from headrace.cli.deployment.description import Scale
from load.autoscaling.service import Costs, Counters, Prometheus, Service
from load.autoscaling.simulation import LOADS, Outcome, bursts, run, step, wave

SEEDS = range(8)
# Enough pods that are always there for bursts that come faster than a pod can start.
WARM = Scale(least=16)


@cache
def worst(name: str, signal: str = "demand", start_s: float = 8.0, least: int = 2) -> Outcome:
    scale = Scale(least=least)
    runs = [
        run(LOADS[name], seed=seed, signal=signal, costs=Costs(start_s=start_s), scale=scale)
        for seed in SEEDS
    ]
    return Outcome(*(max(getattr(each, key) for each in runs) for key in Outcome.__slots__))


def test_eight_times_the_load_at_once() -> None:
    found = worst("step ×8")
    assert found.changes <= 10
    assert found.turned_away <= 0.025


def test_a_wave() -> None:
    found = worst("wave")
    assert found.changes <= 16
    assert found.turned_away <= 0.015


def test_bursts_need_pods_that_are_there_before() -> None:
    name = "bursts of a minute"
    assert worst(name, least=WARM.least).turned_away <= 0.02
    assert worst(name).turned_away > 0.1
    # What that costs: less than the size of the peak all the time.
    found = worst(name, least=WARM.least)
    assert found.hours < found.peak / 2


def test_with_pods_for_the_peak_fewer_than_one_row_in_a_hundred_meets_a_cold_start() -> None:
    name = "bursts of a minute"
    assert worst(name, least=18).cold < 0.01
    assert worst(name).cold > 0.05


def test_demand_turns_fewer_away_with_fewer_changes_than_cpu_does() -> None:
    demand, cpu = worst("step ×8"), worst("step ×8", "cpu")
    assert demand.turned_away < cpu.turned_away
    assert worst("wave").changes < worst("wave", "cpu").changes


def test_room_that_is_held_is_worth_a_minute_of_a_nodes_start() -> None:
    assert worst("step ×8", start_s=8.0).turned_away < worst("step ×8", start_s=60.0).turned_away / 2


def test_demand_is_what_was_offered_whatever_could_be_served() -> None:
    """Three times what the pods can do: two thirds are refused, and what is asked for is all of it."""
    service, prometheus = Service(Costs(alone=1.0), 2), Prometheus(5, 30, 10)
    assert prometheus.demand() is None
    for t in range(61):
        service.step(t, 600)
        prometheus.scrape(t, service.counters)
    counters = service.counters
    assert counters.served == pytest.approx(200 * 61)
    assert counters.served + counters.refused + service.waiting == pytest.approx(600 * 61)
    assert prometheus.demand() == pytest.approx(6.0)


def test_if_nearly_nothing_is_served_the_demand_is_not_believed() -> None:
    prometheus = Prometheus(5, 30, 10)
    prometheus.scrape(0, Counters())
    prometheus.scrape(5, Counters(served=5, refused=50_000, cpu=2.5))
    assert prometheus.demand() == pytest.approx(5.0)


def test_a_pod_takes_rows_when_it_is_ready_and_the_youngest_go_first() -> None:
    service = Service(Costs(start_s=8), 2)
    service.resize(100, 4)
    assert (service.ready(107), service.ready(108)) == (2, 4)
    service.resize(120, 3)
    assert sorted(service.pods) == [0.0, 0.0, 108.0]


def test_loads_are_what_their_names_say() -> None:
    assert step(299) * 8 == step(300)
    assert max(map(wave, range(1800))) == pytest.approx(1050, rel=0.01)
    assert sum(bursts(t) == 1700 for t in range(1800)) == 180

"""Picker and retry budget: pure, so all of it is checked by properties."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.resilience.balancer import by_key, choose, least_of_two
from headrace.hop.resilience.retry import REFILL_S, RetryBudget


@dataclass(frozen=True)
class Peer:
    address: str
    outstanding: int = 0


peers = st.lists(st.integers(0, 50), min_size=1, max_size=12).map(
    lambda loads: [Peer(f"unix:/{i}", load) for i, load in enumerate(loads)]
)


@given(peers, st.randoms(use_true_random=False))
def test_of_two_the_busiest_is_never_chosen(candidates: list[Peer], draw: random.Random) -> None:
    chosen = least_of_two(candidates, draw.random)
    loads = sorted(p.outstanding for p in candidates)
    assert len(candidates) == 1 or chosen.outstanding <= loads[-2]


def test_two_draws_are_different_and_all_are_drawn() -> None:
    candidates = [Peer(f"unix:/{i}", i) for i in range(4)]
    draw = random.Random(3)
    drawn = Counter(least_of_two(candidates, draw.random).outstanding for _ in range(6000))
    assert set(drawn) == {0, 1, 2}  # 3 loses each comparison; that it never wins shows it never meets itself
    assert drawn[0] > drawn[1] > drawn[2]


@given(peers, st.text(min_size=1))
def test_a_key_never_goes_to_an_overfull_replica(candidates: list[Peer], key: str) -> None:
    chosen = by_key(candidates, key)
    mean = (sum(p.outstanding for p in candidates) + 1) / len(candidates)
    assert chosen.outstanding <= 1.25 * mean


@given(st.integers(2, 12), st.lists(st.text(min_size=1), min_size=1, max_size=30), st.data())
def test_only_the_keys_of_a_vanished_replica_move(count: int, keys: list[str], data: st.DataObject) -> None:
    candidates = [Peer(f"unix:/{i}") for i in range(count)]
    gone = data.draw(st.sampled_from(candidates))
    rest = [p for p in candidates if p is not gone]
    for key in keys:
        before = by_key(candidates, key)
        assert before is gone or by_key(rest, key) is before


def test_keys_spread_evenly() -> None:
    candidates = [Peer(f"unix:/{i}") for i in range(4)]
    spread = Counter(choose(candidates, f"key {i}", random.random).address for i in range(4000))
    assert all(800 < n < 1200 for n in spread.values())


# A call, a wish to retry, or seconds that pass.
events = st.lists(st.sampled_from(["call", "retry"]) | st.floats(0, 30), max_size=500)


@given(st.floats(0, 1), st.integers(0, 20), events)
def test_retries_never_exceed_reserve_ratio_and_refill(
    ratio: float, reserve: int, happened: list[str | float]
) -> None:
    budget = RetryBudget(ratio, reserve)
    now = calls = retries = 0.0
    for event in happened:
        if event == "call":
            budget.deposit()
            calls += 1
        elif event == "retry":
            retries += budget.withdraw(now)
        else:
            now += float(event)
        assert retries <= reserve + ratio * calls + reserve * now / REFILL_S + 1e-6
        assert 0 <= budget.balance <= max(reserve, 10 * reserve)


@given(st.floats(0, 1), st.integers(1, 20), events)
def test_a_client_that_was_quiet_has_its_whole_reserve_again(
    ratio: float, reserve: int, happened: list[str | float]
) -> None:
    budget = RetryBudget(ratio, reserve)
    now = 1000.0
    for event in happened:
        if event == "call":
            budget.deposit()
        elif event == "retry":
            budget.withdraw(now)
        else:
            now += float(event)
    now += REFILL_S * 1.001
    assert all(budget.withdraw(now) for _ in range(reserve))


def test_a_quiet_client_has_its_reserve() -> None:
    budget = RetryBudget(0.1, 3)
    assert [budget.withdraw(0) for _ in range(4)] == [True, True, True, False]
    for _ in range(11):
        budget.deposit()
    assert budget.withdraw(0)


def test_time_adds_nothing_to_savings() -> None:
    budget = RetryBudget(1.0, 2)
    for _ in range(10):
        budget.deposit()
    assert budget.withdraw(0)
    assert budget.withdraw(1000)
    assert budget.balance == 10


def test_savings_are_bounded() -> None:
    budget = RetryBudget(1.0, 2)
    for _ in range(10_000):
        budget.deposit()
    assert budget.balance == 20

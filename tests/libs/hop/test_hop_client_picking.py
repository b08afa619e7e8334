"""Picker and retry budget: pure, so all of it is checked by properties."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.picker import by_key, least_of_two, pick
from headrace.hop.retry_budget import RetryBudget


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
    spread = Counter(pick(candidates, f"key {i}", random.random).address for i in range(4000))
    assert all(800 < n < 1200 for n in spread.values())


@given(st.floats(0, 1), st.integers(0, 20), st.lists(st.booleans(), max_size=500))
def test_retries_never_exceed_reserve_and_ratio(ratio: float, reserve: int, events: list[bool]) -> None:
    budget = RetryBudget(ratio, reserve)
    calls = retries = 0
    for is_call in events:
        if is_call:
            budget.deposit()
            calls += 1
        else:
            retries += budget.withdraw()
        assert retries <= reserve + ratio * calls + 1e-9
        assert budget.balance >= 0


def test_a_quiet_client_has_its_reserve() -> None:
    budget = RetryBudget(0.1, 3)
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]
    for _ in range(11):
        budget.deposit()
    assert budget.withdraw()


def test_savings_are_bounded() -> None:
    budget = RetryBudget(1.0, 2)
    for _ in range(10_000):
        budget.deposit()
    assert budget.balance == 20

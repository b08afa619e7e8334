"""Shapley values: exact for few players, close for many, and always the whole difference."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.explanations import MOST_ROUNDS, ExplanationError, coalitions_of, contributions, precise
from headrace.explanations.shapley import Contributions

SEEDS = range(6)


def network(players: int, seed: int) -> Callable[[NDArray[np.bool_]], NDArray[np.float64]]:
    """A small network on the masks, as a model sees a mix of row and base row."""
    random = np.random.default_rng(seed)
    first, second = random.normal(0, 1, (players, 16)), random.normal(0, 1, 16)
    return lambda masks: 1 / (1 + np.exp(-np.tanh(masks @ first / players) @ second))


def asked(players: int, seed: int, *, exact: bool) -> Contributions:
    value, rounds = network(players, seed), []
    for number in range(1 if exact else MOST_ROUNDS):
        made = coalitions_of(players, bytes([seed]), number, most_exact=players if exact else 0)
        rounds.append((made, value(made.masks)))
        if precise(contributions(rounds)):
            break
    return contributions(rounds)


def test_equals_the_mean_over_all_orders() -> None:
    value = network(5, 1)
    expected = np.zeros(5)
    for order in itertools.permutations(range(5)):
        mask = np.zeros((1, 5), bool)
        for player in order:
            before = value(mask)[0]
            mask[0, player] = True
            expected[player] += (value(mask)[0] - before) / math.factorial(5)
    made = coalitions_of(5, b"")
    assert made.exact
    assert len(made) == 32
    assert contributions([(made, value(made.masks))]).values == pytest.approx(expected)


@pytest.mark.parametrize("players", [9, 10, 11, 12])
def test_sampled_ones_are_within_5_percent_of_the_largest(players: int) -> None:
    for seed in SEEDS:
        exact, sampled = asked(players, seed, exact=True), asked(players, seed, exact=False)
        assert exact.exact
        assert not sampled.exact
        assert np.abs(sampled.values - exact.values).max() <= 0.05 * np.abs(exact.values).max()


def test_the_standard_error_covers_the_error() -> None:
    inside = 0
    for seed in range(40):
        exact, sampled = asked(11, seed, exact=True), asked(11, seed, exact=False)
        inside += int((np.abs(sampled.values - exact.values) <= 2 * sampled.errors).sum())
    # 95 % if the means were normal.
    assert 0.9 <= inside / (40 * 11) <= 0.99


@pytest.mark.parametrize("players", [1, 3, 10, 11, 24, 60])
def test_the_sum_is_the_whole_difference(players: int) -> None:
    for seed in SEEDS:
        made = coalitions_of(players, bytes([seed]))
        found = contributions([(made, network(players, seed)(made.masks))])
        assert math.fsum(found.values) == found.value - found.base


@given(st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=8))
@settings(max_examples=200, deadline=None)
def test_the_sum_is_the_difference_to_the_last_digits(outputs: list[float]) -> None:
    found = contributions([(coalitions_of(3, b""), np.array(outputs))])
    largest = max(np.abs(found.values).max(), abs(found.value - found.base))
    assert abs(math.fsum(found.values) - (found.value - found.base)) <= math.ulp(largest)


@pytest.mark.parametrize("players", [6, 13])
def test_a_player_without_influence_adds_nothing(players: int) -> None:
    made = coalitions_of(players, b"one")
    masks = made.masks.copy()
    masks[:, 2] = False
    found = contributions([(made, network(players, 3)(masks))])
    assert found.values[2] == 0
    assert found.errors[2] == 0


def test_the_seed_decides() -> None:
    one, same, other = (coalitions_of(24, seed) for seed in (b"a", b"a", b"b"))
    assert np.array_equal(one.masks, same.masks)
    assert not np.array_equal(one.masks, other.masks)
    # Orders share the empty and the whole coalition.
    assert len(one) == 22 * 23 + 2


def test_numbers_that_are_not_finite_are_refused() -> None:
    made = coalitions_of(2, b"")
    with pytest.raises(ExplanationError) as caught:
        contributions([(made, np.array([0, 1, np.nan, 2]))])
    assert caught.value.cause == "not_finite"


@pytest.mark.parametrize("players", [0, 257])
def test_too_few_and_too_many_players_are_refused(players: int) -> None:
    with pytest.raises(ExplanationError, match="from 1 to 256"):
        coalitions_of(players, b"")

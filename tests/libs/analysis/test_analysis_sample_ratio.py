"""The sample-ratio test: exact mean over all divisions, phases, and that a planted mismatch is found."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.analysis import SRM_ALARM, SampleRatio, log_e_value


@given(st.integers(0, 12), st.floats(0.01, 0.9), st.floats(0.01, 0.99))
def test_its_mean_is_one_if_units_are_divided_by_the_weights(units: int, first: float, rest: float) -> None:
    weights = {"a": first, "b": (1 - first) * rest, "c": (1 - first) * (1 - rest)}
    mean = 0.0
    for a, b in product(range(units + 1), repeat=2):
        c = units - a - b
        if c < 0:
            continue
        chance = float(math.comb(units, a) * math.comb(units - a, b))
        chance *= weights["a"] ** a * weights["b"] ** b * weights["c"] ** c
        mean += chance * math.exp(log_e_value({"a": a, "b": b, "c": c}, weights))
    assert mean == pytest.approx(1)


def test_phases_of_other_weights_are_added_up() -> None:
    ratio = SampleRatio()
    assert ratio.e == 1
    ratio.observe("1", {"a": 990, "b": 10}, {"a": 0.99, "b": 0.01})
    ratio.observe("2", {"a": 500, "b": 500}, {"a": 0.5, "b": 0.5})
    ratio.observe("1", {"a": 99, "b": 1}, {"a": 0.99, "b": 0.01})
    expected = math.exp(log_e_value({"a": 1089, "b": 11}, {"a": 0.99, "b": 0.01})) / 2
    expected += math.exp(log_e_value({"a": 500, "b": 500}, {"a": 0.5, "b": 0.5})) / 6
    assert ratio.e == pytest.approx(expected + 1 / 3)
    assert ratio.units == 2100


def test_a_unit_in_an_arm_of_weight_zero_is_an_alarm() -> None:
    ratio = SampleRatio()
    ratio.observe("1", {"a": 5, "b": 1}, {"a": 1.0})
    assert SRM_ALARM < ratio.e < math.inf


def false_alarms(runs: int, seed: int, truth: float) -> int:
    rng, alarms = np.random.default_rng(seed), 0
    for _ in range(runs):
        ratio = SampleRatio()
        for tick in range(300):
            weight = (0.01, 0.05, 0.25)[tick // 100]
            canary = int(rng.binomial(300, weight * truth))
            ratio.observe(str(tick // 100), {"a": 300 - canary, "b": canary}, {"a": 1 - weight, "b": weight})
            if ratio.e >= SRM_ALARM:
                alarms += 1
                break
    return alarms


def test_it_finds_a_fifth_too_few_and_is_silent_otherwise() -> None:
    assert false_alarms(20, 5, 0.8) == 20
    assert false_alarms(20, 5, 1.0) == 0


@pytest.mark.slow
def test_false_alarms_in_a_thousand_runs() -> None:
    assert false_alarms(1000, 6, 1.0) <= 5

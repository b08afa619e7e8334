"""The e-process of two rates: exact properties on small cases, by enumeration."""

import math
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.analysis import FINE_EFFECTS, HARM_EFFECTS, Count, RateRatio, benjamini_hochberg, rows_needed


def started(margin: float, effects: tuple[float, ...]) -> RateRatio:
    test = RateRatio(margin, effects)
    test.start(1.0)
    return test


@given(st.integers(1, 12), st.integers(1, 12), st.data(), st.sampled_from([HARM_EFFECTS, FINE_EFFECTS]))
def test_given_all_bad_rows_the_canarys_share_is_hypergeometric_and_evidence_does_not_grow(
    live: int, canary: int, data: st.DataObject, effects: tuple[float, ...]
) -> None:
    """Bad rows of a fixed population fall upon the arms by chance: E's mean over all divisions is at most 1."""
    bad = data.draw(st.integers(0, live + canary))
    mean = 0.0
    for in_canary in range(max(0, bad - live), min(bad, canary) + 1):
        chance = comb(canary, in_canary) * comb(live, bad - in_canary) / comb(live + canary, bad)
        test = started(0.0, effects)
        test.observe(Count(live, bad - in_canary), Count(canary, in_canary))
        mean += chance * math.exp(test.log_e)
    assert mean <= 1 + 1e-9


@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("effects", [HARM_EFFECTS, FINE_EFFECTS])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3])
def test_at_the_margin_evidence_does_not_grow_on_average_over_two_ticks(
    margin: float, effects: tuple[float, ...], rate: float
) -> None:
    """Independent rows with p_c = (1+δ)·p_b and other weights in each tick: the mean over all outcomes is at most 1."""
    ticks = [(3, 1), (1, 2)]
    mean = 0.0
    for bad in product(*(range(n + 1) for tick in ticks for n in tick)):
        chance, test = 1.0, started(margin, effects)
        for (live, canary), (x_live, x_canary) in zip(ticks, [bad[:2], bad[2:]], strict=True):
            chance *= binomial(live, x_live, rate) * binomial(canary, x_canary, rate * (1 + margin))
            test.observe(Count(live, x_live), Count(canary, x_canary))
        mean += chance * math.exp(test.log_e)
    assert mean <= 1 + 1e-9


@pytest.mark.parametrize(("effects", "rate"), [(HARM_EFFECTS, 0.02), (FINE_EFFECTS, 0.2)])
def test_on_the_allowed_side_of_the_margin_evidence_shrinks(effects: tuple[float, ...], rate: float) -> None:
    mean = 0.0
    for x_live, x_canary in product(range(5), range(3)):
        test = started(1.0, effects)
        test.observe(Count(4, x_live), Count(2, x_canary))
        mean += binomial(4, x_live, 0.05) * binomial(2, x_canary, rate) * math.exp(test.log_e)
    assert mean < 1


def test_starts_spread_the_weight_and_never_more_than_there_is() -> None:
    test = RateRatio(0.0, HARM_EFFECTS)
    assert test.log_e == 0
    test.start(0.25)
    test.start(0.5)
    assert math.exp(test.log_e) == pytest.approx(1)
    assert test.unspent == pytest.approx(0.25)
    test.start(0.5)
    test.start(0.1)
    assert test.unspent == 0
    assert math.exp(test.log_e) == pytest.approx(1)


def test_a_canary_that_breaks_late_is_found_by_a_start_near_it() -> None:
    """An hour without harm weighs on a test that began with it, but not on one that begins now."""
    once, anew = started(0.0, HARM_EFFECTS), RateRatio(0.0, HARM_EFFECTS)
    for tick in range(3600):
        if tick % 60 == 0:
            anew.start(1 / 100)
        for test in (once, anew):
            test.observe(Count(285, 3 if tick % 3 == 0 else 0), Count(15, 0))
    seconds = {}
    for name, test in (("once", once), ("anew", anew)):
        for second in range(1, 1000):
            test.observe(Count(285, 1), Count(15, 2))
            if test.log_e >= math.log(200):
                seconds[name] = second
                break
    assert seconds["anew"] <= 10
    assert seconds["anew"] * 5 < seconds["once"]


def test_tests_side_by_side_are_as_each_alone() -> None:
    many, alone = RateRatio(0.5, HARM_EFFECTS, 3), [RateRatio(0.5, HARM_EFFECTS) for _ in range(3)]
    rng = np.random.default_rng(1)
    for tick in range(20):
        for test in (many, *alone):
            test.start(0.1 if tick % 5 == 0 else 0.0)
        live, canary = rng.integers(50, 90, 3), rng.integers(1, 9, 3)
        bad = rng.integers(0, 2, (2, 3))
        many.observe_each(live, bad[0], canary, bad[1])
        for test, *of in zip(alone, live, bad[0], canary, bad[1], strict=True):
            n_live, x_live, n_canary, x_canary = map(int, of)
            test.observe(Count(n_live, x_live), Count(n_canary, x_canary))
    assert many.log_es() == pytest.approx([test.log_e for test in alone])
    assert math.exp(many.log_e) == pytest.approx(sum(math.exp(test.log_e) for test in alone) / 3)


def test_of_what_e_bh_believes_few_are_false_though_all_depend_on_one_another() -> None:
    """Twenty tests share their chance; five of them are true. An e-value of mean 1 is a/U-like, the worst there is."""
    rng, false_shares = np.random.default_rng(2), []
    for _ in range(4000):
        chance = rng.random()
        es = np.full(20, 200.0 if chance < 1 / 200 else 0.01)
        es[:5] = 5000.0
        found = benjamini_hochberg(np.log(es), 0.1)
        false_shares.append(sum(i >= 5 for i in found.tolist()) / max(len(found), 1))
        assert {0, 1, 2, 3, 4} <= set(found.tolist())
    assert np.mean(false_shares) <= 0.1
    assert not benjamini_hochberg(np.log([9.0, 1.0]), 0.1).size
    assert benjamini_hochberg(np.log([10.1, 10.1, 1.0, 30.1]), 0.1).tolist() == []
    assert benjamini_hochberg(np.log([20.1, 20.1, 1.0, 1.0]), 0.1).tolist() == [0, 1]


@pytest.mark.parametrize(("rates", "share"), [((0.001, 0.011), 0.05), ((0.0, 0.01), 0.05), ((0.1, 0.3), 0.5)])
def test_the_rows_needed_are_about_those_after_which_harm_is_proven(
    rates: tuple[float, float], share: float
) -> None:
    threshold, rng, rows = math.log(200), np.random.default_rng(3), []
    for _ in range(60):
        test, canary = started(0.0, HARM_EFFECTS), 0
        while test.log_e < threshold:
            canary += 15
            live = round(15 / share * (1 - share))
            bad = rng.binomial([live, 15], rates).tolist()
            test.observe(Count(live, bad[0]), Count(15, bad[1]))
        rows.append(canary)
    assert 0.5 < np.median(rows) / rows_needed(0.0, rates, share, threshold) < 2
    assert rows_needed(0.0, (0.1, 0.1), share, threshold) == math.inf


def binomial(n: int, k: int, p: float) -> float:
    return comb(n, k) * p**k * (1 - p) ** (n - k)

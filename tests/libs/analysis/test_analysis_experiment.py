"""Experiments: the join by key, the delta method, and the interval at every look."""

import math

import numpy as np
import pytest

from headrace.analysis import Moments, difference, read_out, relative_lift, sequential_half_width


def moments(y: list[float], n: list[float] | None = None) -> Moments:
    found = Moments()
    for value, count in zip(y, n or [1.0] * len(y), strict=True):
        found.add(value, count)
    return found


def test_with_one_outcome_a_key_the_variance_is_the_ordinary_one() -> None:
    y = [1.0, 0.0, 3.5, 2.0]
    assert moments(y).mean == pytest.approx(np.mean(y))
    assert moments(y).variance == pytest.approx(np.var(y, ddof=1) / 4)


def test_outcomes_of_a_key_count_by_key() -> None:
    """Ten keys with a hundred equal outcomes each say as much as ten outcomes, not as a thousand."""
    y = [float(i % 2) for i in range(10)]
    assert moments([100 * v for v in y], [100.0] * 10).variance == pytest.approx(moments(y).variance)


@pytest.mark.parametrize("keys", [200, 2_000, 50_000])
def test_at_its_edge_the_evidence_against_zero_is_one_in_alpha(keys: int) -> None:
    """The likelihood ratios of all effects, mixed by a normal distribution whose variance the source gives for 5,000 keys."""
    variance, variance_of_effects = 0.01, 0.00158729
    edge = keys * sequential_half_width(variance, keys, 0.05) / math.sqrt(keys * variance)
    effects = np.linspace(-1, 1, 2_000_001)
    ratios = np.exp(effects * edge - keys * effects**2 / 2 - effects**2 / 2 / variance_of_effects)
    mixed = ratios.sum() * 1e-6 / math.sqrt(2 * math.pi * variance_of_effects)
    assert mixed == pytest.approx(1 / 0.05, rel=1e-4)


def test_the_interval_is_the_narrowest_at_the_number_of_keys_that_it_is_tuned_for() -> None:
    widths = [
        sequential_half_width(0.01, 5_000, 0.05, tuning) for tuning in (2_500, 4_000, 5_000, 6_250, 10_000)
    ]
    assert min(widths) == widths[2]


def test_too_few_keys_say_nothing() -> None:
    assert difference(moments([1.0]), moments([1.0, 2.0])).low == -math.inf
    assert relative_lift(moments([0.0, 0.0]), moments([1.0, 2.0])).high == math.inf


def test_the_read_out_joins_by_key() -> None:
    exposures = [(k, "a" if k % 2 else "b") for k in range(400)] + [(1, "a"), (2, "a"), (999, "other")]
    outcomes = [(k, 1.0 if k % 4 < 2 else 3.0) for k in range(0, 400)] + [(5000, 7.0), (3, 3.0)]
    found = read_out(["a", "b"], {"a": 0.5, "b": 0.5}, exposures, [o for o in outcomes if o[0] % 10])
    assert found.crossed == 1
    assert (found.arms["a"].exposures, found.arms["b"].exposures) == (200, 199)
    assert (found.arms["a"].outcomes, found.arms["b"].outcomes) == (200, 159)
    assert found.arms["a"].mean == pytest.approx((100 * 1 + 101 * 3) / 201)
    assert found.sample_ratio == "as expected"
    assert found.lifts["b"].absolute.value == pytest.approx(found.arms["b"].mean - found.arms["a"].mean)
    assert 0.0 in found.lifts["b"].absolute


def test_a_read_out_says_when_keys_are_not_divided_by_the_weights() -> None:
    exposures = [(k, "a" if k % 3 else "b") for k in range(3000)]
    found = read_out(["a", "b"], {"a": 1, "b": 1}, exposures, [])
    assert found.sample_ratio == "mismatch"
    assert found.lifts == {}
    assert found.arms["a"].mean is None
    assert read_out(["a", "b"], {"a": 2, "b": 1}, exposures, []).sample_ratio == "as expected"


def test_a_lift_is_found() -> None:
    rng = np.random.default_rng(1)
    exposures = [(k, "a" if k % 2 else "b") for k in range(8000)]
    outcomes = [(k, float(rng.random() < (0.2 if k % 2 else 0.3))) for k in range(8000)]
    found = read_out(["a", "b"], {"a": 1, "b": 1}, exposures, outcomes).lifts["b"]
    assert 0.0 not in found.absolute
    assert 0.1 in found.absolute
    assert 0.5 in found.relative


LOOKS, KEYS_A_LOOK = 600, 10


def looks(runs: int, seed: int, lift: float, kind: str) -> tuple[int, int]:
    """Runs in which at any look (once a second, ten keys each) no difference is excluded, and in which the true one is."""
    rng = np.random.default_rng(seed)
    significant, missed = np.zeros(runs, bool), np.zeros(runs, bool)
    sums = {arm: [np.zeros(runs) for _ in range(3)] for arm in "ab"}
    for _ in range(LOOKS):
        keys_b = rng.binomial(KEYS_A_LOOK, 0.5, runs)
        for arm, keys in (("a", KEYS_A_LOOK - keys_b), ("b", keys_b)):
            extra = lift if arm == "b" else 0.0
            if kind == "rare":
                y = rng.binomial(keys, 0.05 + extra).astype(float)
                yy = y
            else:
                drawn = rng.lognormal(0, 1, (runs, KEYS_A_LOOK)) + extra
                drawn[np.arange(KEYS_A_LOOK) >= keys[:, None]] = 0
                y, yy = drawn.sum(1), (drawn**2).sum(1)
            for total, more in zip(sums[arm], (keys, y, yy), strict=True):
                total += more
        for run in np.flatnonzero(~significant | ~missed):
            a, b = (
                Moments(int(k), y, k, yy, y, k)
                for k, y, yy in (tuple(s[run] for s in sums[arm]) for arm in "ab")
            )
            if min(a.keys, b.keys) >= 100:
                interval = difference(a, b)
                significant[run] |= 0.0 not in interval
                missed[run] |= lift not in interval
    return int(significant.sum()), int(missed.sum())


@pytest.mark.parametrize(("runs", "most"), [(25, 3), pytest.param(1000, 50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["rare", "skewed"])
def test_looking_each_second_finds_no_difference_where_none_is(kind: str, runs: int, most: int) -> None:
    assert looks(runs, 11, 0.0, kind)[0] <= most


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "lift"), [("rare", 0.03), ("skewed", 0.3)])
def test_a_thousand_planted_lifts_lie_in_the_interval_at_every_look(kind: str, lift: float) -> None:
    found, missed = looks(1000, 13, lift, kind)
    assert missed <= 50
    assert found >= 300

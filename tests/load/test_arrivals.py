"""Poisson arrivals: as many as the rate says, memoryless, and where the rate changes."""

import numpy as np
import pytest

from load.generator.arrivals import Stretch, arrivals, ramp, spike, steady


def test_a_steady_rate_is_kept_with_exponential_gaps() -> None:
    times = arrivals(steady(1000, 50), np.random.default_rng(1))
    gaps = np.diff(times)
    assert len(times) == pytest.approx(50_000, rel=0.02)
    assert gaps.min() >= 0
    assert times[-1] < 50
    # Of an exponential, the deviation equals the mean; evenly spaced arrivals have none.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)


def test_a_ramp_grows_evenly() -> None:
    times = arrivals(ramp(1000, 100), np.random.default_rng(2))
    assert len(times) == pytest.approx(100 * (100 + 1000) / 2, rel=0.02)
    # In the first half the rate goes from 100 to 550.
    assert (times < 50).sum() == pytest.approx(50 * (100 + 550) / 2, rel=0.03)


def test_a_spike_lasts_a_fifth_of_the_time() -> None:
    times = arrivals(spike(100, 1000, 50), np.random.default_rng(3))
    assert ((times >= 10) & (times < 20)).sum() == pytest.approx(10_000, rel=0.05)
    assert (times >= 20).sum() == pytest.approx(3_000, rel=0.1)


def test_a_stretch_down_is_as_exact_as_one_up() -> None:
    times = arrivals([Stretch(100, 1000, 100)], np.random.default_rng(4))
    assert (times < 50).sum() == pytest.approx(50 * (1000 + 550) / 2, rel=0.02)
    assert np.all(np.diff(times) >= 0)


def test_the_same_seed_gives_the_same_times() -> None:
    first, second = (arrivals(steady(500, 2), np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(first, second)

"""What a soak is soak_verdict by: no request lost, memory that does not grow."""

from __future__ import annotations

import pytest

from load.scenarios.open_loop_profiles import soak_verdict


def test_memory_that_moves_up_and_down_is_flat() -> None:
    assert "flat, and no error" in soak_verdict(0, 1000, [580.0, 600, 598, 602, 599, 603, 597, 601, 600, 599])


def test_caches_may_fill_in_the_beginning() -> None:
    assert "flat" in soak_verdict(0, 1000, [400.0, 550, 600, 600, 600, 600, 600, 600, 600, 600])


def test_a_leak_is_found_under_the_noise() -> None:
    leaking = [600.0 + 3 * i + (5 if i % 2 else -5) for i in range(20)]
    with pytest.raises(SystemExit, match=r"\+4[0-9]\.\d MB: FAILED, at most 2% is flat"):
        soak_verdict(0, 1000, leaking)


def test_one_peak_is_no_leak() -> None:
    assert "flat" in soak_verdict(0, 1000, [600.0] * 9 + [900.0])


def test_one_lost_request_fails_it() -> None:
    with pytest.raises(SystemExit, match=r"1 of 1000 without an answer in time.*FAILED"):
        soak_verdict(1, 1000, [600.0] * 10)


def test_a_single_stretch_has_no_trend() -> None:
    assert "+0.0 MB" in soak_verdict(0, 10, [600.0])

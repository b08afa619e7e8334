"""Verdicts on what was measured: soak (losses, memory), check (batching), ab (calls, CPU, latency)."""

import random
import re

import pytest

from load.ab.verdicts import sure, worse_counts, worse_median, worse_pairs
from load.scenarios.check import Cost, judge
from load.scenarios.open_loop_profiles import soak_verdict


@pytest.mark.parametrize(
    ("lost", "memory", "said"),
    [
        (0, [580.0, 600, 598, 602, 599, 603, 597, 601, 600, 599], ": flat, and no error"),
        # Caches may fill in the beginning.
        (0, [400.0, 550, 600, 600, 600, 600, 600, 600, 600, 600], ": flat, and no error"),
        # A leak under the noise; one peak is none.
        (
            0,
            [600.0 + 3 * i + (5 if i % 2 else -5) for i in range(20)],
            r"\+4\d\.\d MB: FAILED, at most 2% is flat",
        ),
        (0, [600.0] * 9 + [900.0], ": flat, and no error"),
        (1, [600.0] * 10, "^1 of 1000 without an answer in time.*FAILED"),
        # A single stretch has no trend.
        (0, [600.0], r"\+0\.0 MB"),
    ],
)
def test_a_soak_fails_for_a_leak_or_a_lost_request(lost: int, memory: list[float], said: str) -> None:
    assert re.search(said, soak_verdict(lost, 1000, memory))
    assert "+0.0 MB: flat" in soak_verdict(0, 1000, [500.0, 560, 600, 640, 680, 720] * 3, cycle=6)


def test_what_is_expected_passes_and_says_the_ratio() -> None:
    assert "8.00 times" in judge(off=Cost(8000, 1.0), on=Cost(1000, 1.0))


def test_batching_that_saves_too_little_fails() -> None:
    with pytest.raises(SystemExit, match=r"1\.90 times"):
        judge(off=Cost(1900, 1.0), on=Cost(1000, 1.0))


def test_a_build_that_leaves_requests_unanswered_fails() -> None:
    with pytest.raises(SystemExit, match="50%"):
        judge(off=Cost(8000, 1.0), on=Cost(1000, 0.5))


BASE = {"1 row": [2298, 1764], "64 requests": [19_922, 21_561]}


def pairs(factor: float, noise: float, value: float = 500.0, rounds: int = 9) -> dict[str, list[float]]:
    """Rounds of two equal systems and of one that takes `factor` times as long."""
    draw = random.Random(4)
    return {
        name: [value * times * draw.uniform(1 - noise, 1 + noise) for _ in range(rounds)]
        for name, times in (("base", 1), ("again", 1), ("new", factor))
    }


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ({}, []),
        ({"1 row": [2200, 1700]}, []),
        ({"1 row": [2299, 1764]}, ["1 row: 2299 calls of Python, 2298 before"]),
        ({"1 row": [2298, 1765]}, ["1 row: 1765 calls of C, 1764 before"]),
        ({"64 requests": [19_990, 21_600]}, []),
        ({"64 requests": [19_922 + 128, 21_561]}, ["64 requests: 20050 calls of Python, 19922 before"]),
    ],
)
def test_calls_of_single_requests_may_not_grow_at_all(new: dict[str, list[int]], told: list[str]) -> None:
    assert worse_counts(BASE, BASE | new) == told


@pytest.mark.parametrize(
    ("factor", "noise", "red"),
    [(1.0, 0.02, False), (1.04, 0.001, False), (1.08, 0.02, True), (1.08, 0.3, False), (7.0, 0.5, True)],
)
def test_cpu_may_grow_by_five_percent_or_by_what_equal_builds_differ(
    factor: float, noise: float, red: bool
) -> None:
    assert bool(worse_pairs("CPU", pairs(factor, noise), 1.05)) == red


@pytest.mark.parametrize(
    ("factor", "rounds", "told"),
    [(1.0, 300, True), (1.0, 9, False), (1.08, 300, False), (1.08, 9, False), (3.0, 300, False)],
)
def test_many_pairs_tell_eight_percent_through_noise_and_few_tell_nothing(
    factor: float, rounds: int, told: bool
) -> None:
    measured = pairs(factor, 0.15, rounds=rounds)
    assert (worse_median("CPU", measured, 1.05) == []) == told
    assert sure(measured) == (rounds == 300)


def test_where_equal_builds_differ_nothing_is_known() -> None:
    measured = pairs(1.0, 0.01)
    [line] = worse_median("CPU", measured | {"again": [530.0] * 9}, 1.05)
    assert line.startswith("not told")


@pytest.mark.parametrize(("factor", "red"), [(1.0, False), (1.03, False), (1.2, True)])
def test_latency_may_grow_by_what_equal_builds_differ(factor: float, red: bool) -> None:
    assert bool(worse_pairs("p50", pairs(factor, 0.1), 1.0)) == red


def test_a_system_that_answered_nothing_is_worse() -> None:
    nothing = [float("nan")] * 9
    for worse in (worse_pairs, worse_median):
        assert worse("p50", pairs(1.0, 0.001) | {"new": nothing}, 1.0)
        assert worse("p50", pairs(1.0, 0.001) | {"base": nothing}, 1.0)


def test_a_round_in_which_the_machine_did_something_else_says_nothing() -> None:
    measured = pairs(1.0, 0.01)
    measured["new"][3] = measured["again"][5] = float("nan")
    assert not worse_pairs("p50", measured, 1.05)

"""When the comparison of two versions is red: calls to the call, CPU beyond 5 %, latency beyond what equal builds differ by."""

from __future__ import annotations

import random

import pytest

from load.ab.verdicts import worse_counts, worse_pairs
from load.ab.versions import LANDED, last_landed

BASE = {"1 row": [2298, 1764], "64 requests": [19_922, 21_561]}


def pairs(factor: float, noise: float, value: float = 500.0) -> dict[str, list[float]]:
    """Nine rounds of two equal systems and of one that takes `factor` times as long."""
    draw = random.Random(4)
    return {
        name: [value * times * draw.uniform(1 - noise, 1 + noise) for _ in range(9)]
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


def test_where_equal_builds_differ_by_more_than_is_tolerated_nothing_is_known() -> None:
    assert not worse_pairs("CPU", pairs(1.0, 0.01), 1.05, sure=True)
    [line] = worse_pairs("CPU", pairs(1.0, 0.3), 1.05, sure=True)
    assert line.startswith("not told")


@pytest.mark.parametrize(("factor", "red"), [(1.0, False), (1.03, False), (1.2, True)])
def test_latency_may_grow_by_what_equal_builds_differ(factor: float, red: bool) -> None:
    assert bool(worse_pairs("p50", pairs(factor, 0.1), 1.0)) == red


def test_a_system_that_answered_nothing_is_worse() -> None:
    nothing = [float("nan")] * 9
    assert worse_pairs("p50", pairs(1.0, 0.1) | {"new": nothing}, 1.0)
    assert worse_pairs("p50", pairs(1.0, 0.1) | {"base": nothing}, 1.0)


def test_a_round_in_which_the_machine_did_something_else_says_nothing() -> None:
    measured = pairs(1.0, 0.01)
    measured["new"][3] = measured["again"][5] = float("nan")
    assert not worse_pairs("p50", measured, 1.05)


def test_the_last_landed_version_is_the_last_line() -> None:
    assert LANDED.read_text().split()[-1] == last_landed()

"""What the scenario of shadows makes of its windows."""

from __future__ import annotations

import pytest

from load.scenarios.releases.shadow import Window, verdict


def pair(*p99: float) -> list[Window]:
    return [Window(1.0, ms, 0, 0.0) for ms in p99]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([pair(10, 11, 10)] * 9, "1.10 times that without"),
        ([pair(10, 11, 10)] * 9, "well within"),
        ([pair(10, 20, 10)] * 9, "TOO MUCH"),
        ([pair(10, 18, 20)] * 9, "well within"),
        ([pair(10, 11, 10)] * 5 + [pair(10, 90, 10)] * 4, "well within"),
        ([pair(10, 13, 10)] * 5 + [pair(10, 10, 30)] * 4, "TOO MUCH"),
    ],
)
def test_the_shadow_may_cost_fifteen_percent_or_the_spread(pairs: list[list[Window]], said: str) -> None:
    assert said in verdict(pairs)

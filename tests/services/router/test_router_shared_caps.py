"""Caps that routers share: each has its part, and what was used is not forgotten when their number changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from headrace.releases import Cap
from services.router.metrics import Metrics
from services.router.routes.caps import PipelineCaps
from tests.services.clock import Clock
from tests.services.router.test_router_caps import refused, requests


def routers(count: int, **limits: Any) -> tuple[list[PipelineCaps], Clock]:
    clock = Clock()
    found = [PipelineCaps("flights", clock, count) for _ in range(count)]
    for each in found:
        each.apply(Cap(**limits))
    return found, clock


def test_each_router_has_its_part_and_a_refusal_says_so() -> None:
    (one, *others), _ = routers(4, rows_per_s=8, rows_in_flight=4, shared=True)
    admitted, passed = one.admit(requests(1, 1))
    assert (refused(admitted), passed) == ({1: "pipeline_in_flight"}, 1)
    assert "4 rows in flight in 4 routers together" in admitted.errors[1].message
    one.release(passed)
    admitted, passed = one.admit(requests(1))
    one.release(passed)
    assert (refused(admitted), passed) == ({}, 1)
    admitted, _ = one.admit(requests(1))
    assert refused(admitted) == {0: "pipeline_rows"}
    assert "8 rows per second in 4 routers together" in admitted.errors[0].message
    assert admitted.errors[0].metadata["retry_after_ms"] == "500"
    assert [other.admit(requests(1))[1] for other in others] == [1, 1, 1]


def test_without_the_key_each_router_counts_alone() -> None:
    both, _ = routers(2, rows_per_s=3)
    assert [each.admit(requests(1, 1, 1, 1))[1] for each in both] == [3, 3]
    assert "routers" not in both[0].admit(requests(1))[0].errors[0].message


def test_a_router_that_comes_or_goes_forgives_nothing() -> None:
    (one,), clock = routers(1, rows_per_s=8, session_by="carrier", session_rows_per_s=4, shared=True)
    assert one.admit(requests(4, sessions=["a"]))[1] == 4
    one.share(2)
    # Half of the rate is left, of which half was used; of the session's, all.
    assert refused(one.admit(requests(1, 2, 1, sessions=["a", "b", "c"]))[0]) == {
        0: "session_rows",
        3: "pipeline_rows",
    }
    clock.now += 0.5
    assert one.admit(requests(1, sessions=["a"]))[1] == 1
    one.share(1)
    assert one.admit(requests(3, sessions=["d"]))[1] == 0
    one.apply(Cap(rows_per_s=8, session_by="carrier", session_rows_per_s=4))
    assert one.admit(requests(4, sessions=["d"]))[1] == 4


@given(
    count=st.integers(1, 5),
    rate=st.floats(0.5, 40),
    calls=st.lists(st.tuples(st.integers(0, 4), st.floats(0, 0.5), st.integers(1, 5)), max_size=60),
)
def test_all_routers_together_pass_no_more_than_the_cap_says(
    count: int, rate: float, calls: list[tuple[int, float, int]]
) -> None:
    """But for what is more than a router's part: it passes alone, and its debt is paid."""
    found, clock = routers(count, rows_per_s=rate, shared=True)
    began, passed = clock.now, 0
    for router, pause, rows in calls:
        clock.now += pause
        passed += found[router % count].admit(requests(rows))[1]
    burst = count * max(rate / count, 1.0)
    assert passed <= burst + rate * (clock.now - began) + 5 * count + 1e-6


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_routers_is_a_metric(count: int) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.routers(count)
    assert registry.get_sample_value("headrace_router_shared_caps_routers") == count

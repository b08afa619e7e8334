"""Quotas: never more than the rate and burst allow, whatever the clock does; one tenant never costs another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.errors import Code, Fault
from headrace.state.tenants import QuotaSpec
from services.ingress.quotas import Quotas, TokenBucket
from services.ingress.tenants import Tenant


def tenant(name: str, **limits: float) -> Tenant:
    return Tenant(name, frozenset("*"), QuotaSpec.model_validate(limits), 1)


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 100),
    steps=st.lists(st.floats(-1, 5), min_size=1, max_size=200),
)
def test_a_bucket_passes_at_most_burst_plus_rate(rate: float, burst: float, steps: list[float]) -> None:
    now = latest = 0.0
    bucket = TokenBucket(rate, burst, now)
    passed = 0
    for step in steps:
        now += step
        latest = max(latest, now)
        passed += bucket.take(now) == 0.0
        assert passed <= burst + rate * latest + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.floats(1, 20))
def test_the_hint_is_long_enough(rate: float, burst: float) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    while (wait := bucket.take(0.0)) == 0.0:
        pass
    assert bucket.take(wait + 1e-6) == 0.0


def test_concurrency_is_given_back_and_refusal_costs_no_token() -> None:
    now = 0.0
    quotas = Quotas(lambda: now)
    limited = tenant("a", rate_per_s=1, burst=2, concurrency=1)
    first = quotas.enter(limited)
    with pytest.raises(Fault) as refused:
        quotas.enter(limited)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert refused.value.retry_after_s is not None
    first.leave()
    quotas.enter(limited).leave()
    with pytest.raises(Fault, match="1 requests per second"):
        quotas.enter(limited)
    for _ in range(10):
        quotas.enter(tenant("b"))


def test_a_reload_that_changes_nothing_keeps_what_was_used() -> None:
    quotas = Quotas(lambda: 0.0)
    quotas.enter(tenant("a", rate_per_s=1, burst=1))
    with pytest.raises(Fault):
        quotas.enter(tenant("a", rate_per_s=1, burst=1))
    quotas.enter(tenant("a", rate_per_s=1, burst=5))

"""Quotas: never more than the rate and burst allow, whatever the clock does; one tenant never costs another."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.errors import Code, Reason
from headrace.hop.resilience.limiter import TokenBucket
from services.ingress.admission.quotas import QuotaFault, Quotas
from services.ingress.documents.catalog import Tenant
from tests.services.ingress.sharing_doors import tenant


@given(rate=st.floats(0.1, 1000), burst=st.floats(1, 20))
def test_the_hint_is_long_enough(rate: float, burst: float) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    while (wait := bucket.take(0.0)) == 0.0:
        pass
    assert bucket.take(wait + 1e-6) == 0.0


def asks(quotas: Quotas, who: Tenant, rows: int = 1, size_bytes: int = 1) -> None:
    """One request, from its beginning to its end."""
    quota = quotas.acquire(who)
    try:
        quota.charge(rows, size_bytes)
    finally:
        quota.release()


def refusal(quotas: Quotas, who: Tenant, rows: int = 1, size_bytes: int = 1) -> QuotaFault:
    with pytest.raises(QuotaFault) as caught:
        asks(quotas, who, rows, size_bytes)
    fault = caught.value
    assert fault.code is Code.RESOURCE_EXHAUSTED
    assert fault.reason == Reason.REASON_QUOTA_EXCEEDED
    assert fault.retry_after_s is not None
    return fault


def waits(quotas: Quotas, who: Tenant, rows: int) -> float:
    """The hint of a refusal; 0.0: there was none."""
    try:
        asks(quotas, who, rows)
    except QuotaFault as fault:
        return fault.retry_after_s or math.inf
    return 0.0


def test_concurrency_is_given_back_and_refusal_costs_no_token() -> None:
    quotas = Quotas(lambda: 0.0)
    limited = tenant("a", rows_per_s=1, rows_burst=2, concurrency=1)
    first = quotas.acquire(limited)
    first.charge(1, 1)
    fault = refusal(quotas, limited)
    assert fault.metadata["quota"] == "concurrency"
    assert fault.empty
    first.release()
    asks(quotas, limited)
    assert "1 rows per second" in refusal(quotas, limited).message
    for _ in range(10):
        asks(quotas, tenant("b"))


def test_rows_are_counted_not_requests() -> None:
    now = [0.0]
    quotas, who = Quotas(lambda: now[0]), tenant("a", rows_per_s=10, rows_burst=20)
    asks(quotas, who, rows=15)
    fault = refusal(quotas, who, rows=6)
    limit = {"limit": "10 rows per second", "limiter": "tenant_rows"}
    assert fault.metadata == {"tenant": "a", "quota": "rows", **limit}
    assert not fault.empty  # a request of five rows passes
    asks(quotas, who, rows=5)
    assert refusal(quotas, who).empty
    now[0] += fault.retry_after_s or 0.0
    asks(quotas, who)


def test_bytes_are_counted_and_a_refusal_takes_no_rows() -> None:
    quotas = Quotas(lambda: 0.0)
    who = tenant("a", rows_per_s=10, rows_burst=3, bytes_per_s=100, bytes_burst=1000)
    asks(quotas, who, size_bytes=900)
    fault = refusal(quotas, who, size_bytes=200)
    assert (fault.metadata["quota"], fault.metadata["limiter"]) == ("bytes", "tenant_bytes")
    assert fault.retry_after_s == pytest.approx(1.0)
    # Neither rows nor bytes were taken: two rows and a hundred bytes are left.
    asks(quotas, who, rows=2, size_bytes=100)


def test_a_request_larger_than_the_burst_passes_on_a_full_bucket_into_debt() -> None:
    now = [0.0]
    quotas, who = Quotas(lambda: now[0]), tenant("a", rows_per_s=10, rows_burst=20)
    asks(quotas, who, rows=100)
    # 80 rows are owed: as long as it takes to have them back nothing passes, and a second one waits for a full bucket.
    assert refusal(quotas, who).retry_after_s == pytest.approx(8.1)
    now[0] += 9.9
    assert not refusal(quotas, who, rows=100).empty
    now[0] += 0.2
    asks(quotas, who, rows=100)


@given(
    rate=st.floats(1, 1000),
    burst=st.floats(1, 100),
    steps=st.lists(st.tuples(st.floats(-1, 2), st.integers(1, 300)), min_size=1, max_size=100),
)
def test_whatever_the_sizes_the_rate_holds(rate: float, burst: float, steps: list[tuple[float, int]]) -> None:
    now = [0.0]
    quotas, who = Quotas(lambda: now[0]), tenant("a", rows_per_s=rate, rows_burst=burst)
    passed, first, latest = 0, steps[0][0], -1.0
    for step, rows in steps:
        now[0] += step
        latest = max(latest, now[0])
        if (wait := waits(quotas, who, rows)) == 0.0:
            passed += rows
        assert wait <= (max(rows, burst) + 300) / rate + 1e-6
        # The last one may owe what it took beyond the burst.
        assert passed <= burst + rate * (latest - first) + max(300 - burst, 0) + 1e-6


def test_a_reload_that_changes_nothing_keeps_what_was_used() -> None:
    quotas = Quotas(lambda: 0.0)
    asks(quotas, tenant("a", rows_per_s=1, rows_burst=1))
    refusal(quotas, tenant("a", rows_per_s=1, rows_burst=1))
    asks(quotas, tenant("a", rows_per_s=1, rows_burst=5))

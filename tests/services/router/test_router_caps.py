"""The caps of a release: no more passes than they say, requests pass whole, a refusal says by what and when to retry.
Of those that routers share each has its part, and what was used is not forgotten when their number changes."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Code, Reason
from headrace.pipeline import parse
from headrace.releases import Cap
from services.router.pipelines import Compiler, Served
from services.router.routes import caps as module
from services.router.routes.caps import PipelineCaps
from services.router.stages.runner import StageResult
from tests.first_release import first_released
from tests.services.clock import Clock
from tests.services.router.one_pipeline import inference
from tests.services.router.router_releases import batch
from tests.services.router.test_router_routes import DOCUMENT, Multiplier


def caps(**limits: Any) -> tuple[PipelineCaps, Clock]:
    clock = Clock()
    found = PipelineCaps("flights", clock)
    found.apply(Cap(**limits))
    return found, clock


def requests(
    *sizes: int, sessions: list[str | None] | None = None, tenants: list[str] | None = None
) -> Batch:
    """A batch of requests of so many rows each."""
    each = [i for i, size in enumerate(sizes) for _ in range(size)]
    count = len(each)
    whose = [tenants[i] for i in each] if tenants else ["t"] * count
    rows = Rows([f"r{i}" for i in each], whose, [1] * count, [9.0] * count, [""] * count)
    carriers = Column.of_text("carrier", [sessions[i] if sessions else None for i in each])
    return batch(rows, carriers)


def refused(found: Batch) -> dict[int, str]:
    """Row → the limiter that refused it."""
    assert {e.code for e in found.errors.values()} <= {Code.RESOURCE_EXHAUSTED}
    return {row: error.metadata["limiter"] for row, error in sorted(found.errors.items())}


def test_requests_pass_whole_until_the_rate_is_used_up() -> None:
    found, clock = caps(rows_per_s=10)
    admitted, passed = found.admit(requests(6, 6, 3, 1, 1))
    assert refused(admitted) == dict.fromkeys(range(6, 12), "pipeline_rows") | {16: "pipeline_rows"}
    assert passed == 10
    error = admitted.errors[6]
    assert error.reason == Reason.REASON_QUOTA_EXCEEDED
    assert error.metadata["pipeline"] == "flights"
    assert error.metadata["retry_after_ms"] == "200"  # 4 rows are left of 6
    assert error.fault().retry_after_s == 0.2
    clock.now += 0.2
    assert refused(found.admit(requests(2, 1))[0]) == {2: "pipeline_rows"}


def test_rows_in_flight_are_counted_until_they_are_released() -> None:
    found, _ = caps(rows_in_flight=4)
    admitted, passed = found.admit(requests(3, 2, 1))
    assert refused(admitted) == dict.fromkeys((3, 4), "pipeline_in_flight")
    assert (passed, found.in_flight) == (4, 4)
    assert refused(found.admit(requests(1))[0]) == {0: "pipeline_in_flight"}
    found.release(passed)
    assert found.in_flight == 0
    # One that is larger than the cap could never pass, so it passes alone.
    admitted, passed = found.admit(requests(9, 1))
    assert refused(admitted) == {9: "pipeline_in_flight"}
    assert passed == 9


def test_each_session_has_its_own_rate_and_tenants_share_none() -> None:
    found, clock = caps(session_by="carrier", session_rows_per_s=2)
    many = requests(2, 1, 1, 1, sessions=["a", "a", "b", "a"], tenants=["t", "t", "t", "other"])
    assert refused(found.admit(many)[0]) == {2: "session_rows"}
    # Leaving the session out is one session.
    none = requests(2, 1, 1, sessions=[None, None, None], tenants=["t", "t", "other"])
    assert refused(found.admit(none)[0]) == {2: "session_rows"}
    clock.now += 0.5
    assert refused(found.admit(requests(1, 1, sessions=["a", "a"]))[0]) == {1: "session_rows"}


def test_a_session_that_is_refused_uses_nothing_up() -> None:
    found, _ = caps(session_by="@tenant", session_rows_per_s=1, rows_per_s=2, rows_in_flight=9)
    assert refused(found.admit(requests(1, 1, 1, tenants=["a", "a", "b"]))[0]) == {1: "session_rows"}
    assert refused(found.admit(requests(1, tenants=["c"]))[0]) == {0: "pipeline_rows"}
    assert found.in_flight == 2


def test_of_many_sessions_the_one_that_was_idle_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    found, _ = caps(session_by="carrier", session_rows_per_s=2)
    found.admit(requests(2, 2, 1, 2, sessions=["a", "b", "a", "c"]))
    assert found.sessions == 2
    # Not a, whose last row was refused but is newer than b's.
    assert refused(found.admit(requests(1, sessions=["a"]))[0]) == {0: "session_rows"}
    assert refused(found.admit(requests(1, sessions=["b"]))[0]) == {}


def test_rows_that_failed_before_use_nothing() -> None:
    found, _ = caps(rows_per_s=1)
    early = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "x is wrong")
    admitted, passed = found.admit(requests(2).with_errors({0: early}))
    assert (dict(admitted.errors), passed) == ({0: early}, 1)


def test_a_new_release_with_the_same_caps_forgives_nothing() -> None:
    found, _ = caps(rows_per_s=1, session_by="carrier", session_rows_per_s=1, rows_in_flight=5)
    found.admit(requests(1, sessions=["a"]))
    found.apply(Cap(rows_per_s=1, session_by="carrier", session_rows_per_s=1, rows_in_flight=5))
    both = found.admit(requests(1, 1, sessions=["a", "b"]))[0]
    assert refused(both) == {0: "session_rows", 1: "pipeline_rows"}
    found.apply(None)
    assert refused(found.admit(requests(50))[0]) == {}
    assert found.in_flight == 51


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 5), max_size=6), st.floats(0, 2), st.booleans()), max_size=20),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_no_more_passes_than_allowed(
    steps: list[tuple[list[int], float, bool]], rate: int, most: int
) -> None:
    found, clock = caps(rows_per_s=rate, rows_in_flight=most)
    began, passed_rows, largest, flying = clock.now, 0, 0, []
    for sizes, seconds, answer in steps:
        clock.now += seconds
        whole = requests(*sizes)
        admitted, passed = found.admit(whole)
        ids = whole.rows.request_ids
        for request in set(ids):
            assert len({row in admitted.errors for row, i in enumerate(ids) if i == request}) == 1
        assert passed == len(whole) - len(admitted.errors)
        passed_rows += passed
        largest = max([largest, *sizes])
        flying.append(passed)
        if answer:
            for rows in flying:
                found.release(rows)
            flying = []
        assert found.in_flight == sum(flying) <= max(most, largest)
        assert passed_rows <= rate * (clock.now - began) + max(rate, largest) + 1e-6


class Counting(Multiplier):
    """Counts the rows that it ran."""

    ran = 0

    async def run(self, found: Batch) -> StageResult:
        Counting.ran += len(found)
        return await super().run(found)


@pytest.mark.parametrize("broken", [False, True])
async def test_what_is_refused_is_not_computed_and_what_ended_is_not_in_flight(
    monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    found, _ = caps(rows_in_flight=3)
    monkeypatch.setattr(Counting, "ran", 0)
    document = parse(DOCUMENT.replace("NAME", "times2"), "double.yaml")
    compiled = Compiler({"model": Counting}).compile(first_released(document))
    capped = inference(Served(compiled.pipeline, compiled.routes, caps=found))
    rows = Rows(["a", "a", "b", "c"], ["t"] * 4, [1] * 4, [time.monotonic() + 60] * 4, [""] * 4)
    name = "z" if broken else "x"
    whole = Batch.of(rows, [Column.of(name, np.arange(4, dtype=np.float32))])
    if broken:
        with pytest.raises(Exception, match="has no column 'x'"):
            await capped.infer("double", 0, whole)
    else:
        answer = await capped.infer("double", 0, whole)
        assert refused(answer.batch) == {3: "pipeline_in_flight"}
        assert answer.batch.columns["y"].array.tolist() == [0.0, 2.0, 4.0, 0.0]
        assert Counting.ran == 3
    assert found.in_flight == 0


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

"""Rows that share their fate count once: by request, and by answer."""

from headrace.ticks import latency_bucket
from services.router.ticks.counters import Counted, Counters
from tests.services.router.tick_rows import CALLERS, OURS, answer, part

RELEASE = Counted(1, compares=True)


def test_a_request_is_bad_if_a_row_is_and_rows_answered_together_are_one_answer() -> None:
    counted = Counters()
    for request, errors, seconds in (
        ("a", {}, 0.01),
        ("b", {0: OURS, 2: OURS}, 3.0),
        ("c", {1: CALLERS}, 0.01),
    ):
        batch = answer([0.1] * 3, errors, request)
        counted.answered(RELEASE, part(batch), batch, seconds)
    counted.failed(RELEASE, part(answer([0.1] * 3, request="d")), 3.0)
    [figures] = counted.tick().arms.values()
    assert (figures.rows, figures.errors) == (12, 5)
    assert (figures.assigned.requests, figures.assigned.bad_requests) == (4, 2)
    quick, slow = latency_bucket(0.01), latency_bucket(3.0)
    assert {i: n for i, n in enumerate(figures.assigned.answers) if n} == {quick: 2, slow: 2}

"""The suite's own tools: the descriptions hold together, and what a fault cost is counted."""

from dataclasses import replace
from typing import Any

import pytest
from grpc import StatusCode

from headrace.slo import alert_names
from tests.chaos.expectation import Expectation, counted
from tests.chaos.record import row
from tests.chaos.test_chaos import FAULTS
from tests.faults.traffic import Outcome

EXPECTED = Expectation("killed", "it is killed", "it starts", "HeadraceCrashLoop")
FOUND = counted(
    [
        Outcome(9.0, 0.1, StatusCode.INTERNAL, (), ""),
        Outcome(10.0, 0.5, StatusCode.UNAVAILABLE, (), ""),
        Outcome(11.0, 1.0, StatusCode.OK, ("features/planes:stale",), ""),
        Outcome(12.0, 0.1, StatusCode.OK, (), ""),
    ],
    begun=10.0,
    mended=11.5,
    detected=13.0,
)


def test_each_fault_has_a_name_of_its_own_and_an_alert_that_there_is() -> None:
    names = [chaos.expected.name for chaos in FAULTS]
    assert len(set(names)) == len(names)
    assert {chaos.expected.alert for chaos in FAULTS} <= set(alert_names())


def test_only_what_the_fault_did_is_counted() -> None:
    assert (FOUND.sent, FOUND.failed, FOUND.slowest_s) == (3, {"UNAVAILABLE": 1}, 1.0)
    assert (FOUND.with_fallbacks, FOUND.fallbacks) == (1, {"features/planes:stale": 1})
    assert (FOUND.detected_s, FOUND.recovered_s) == (3.0, 0.5)
    assert EXPECTED.broken(FOUND) == []


@pytest.mark.parametrize(
    ("expected", "sent", "broken"),
    [
        ({"recovery_s": 0.4}, 3, "it recovered after 0.5 s, not 0.4"),
        ({"codes": frozenset()}, 3, "requests failed with UNAVAILABLE"),
        ({"fallbacks": ("cache",)}, 3, "rows had the fallbacks features/planes:stale"),
        ({"most": 0.02}, 3, "33.3% of the requests failed, not 2.0% at most"),
        ({}, 0, "no request was sent"),
    ],
)
def test_what_is_not_as_expected_is_named(expected: dict[str, Any], sent: int, broken: str) -> None:
    assert f"no: {broken} |" in row(replace(EXPECTED, **expected), replace(FOUND, sent=sent), "real")

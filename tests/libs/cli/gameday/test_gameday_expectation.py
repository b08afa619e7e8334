"""What a fault cost, and whether that is as expected."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from headrace.cli.gameday import table
from headrace.cli.gameday.expectation import Expectation
from headrace.cli.gameday.faults import FAULTS
from headrace.cli.gameday.figures import Figures, Request, counted
from headrace.cli.gameday.report import Report
from headrace.slo import alert_names

EXPECTED = Expectation(
    "killed",
    "it is killed",
    "it starts",
    "HeadraceCrashLoop",
    codes=frozenset({"UNAVAILABLE"}),
    fallbacks=("features/",),
)
REQUESTS = [
    Request(9.0, 0.1, "INTERNAL"),
    Request(10.0, 0.5, "UNAVAILABLE"),
    Request(11.0, 1.0, "OK", ("features/planes:stale", "known")),
    Request(12.0, 0.1, "OK", ("known",)),
]


def figures(detected: float | None = 13.0, recovered: bool = True) -> Figures:
    return counted(
        REQUESTS, begun=10.0, mended=11.5, detected=detected, recovered=recovered, usual=frozenset({"known"})
    )


def test_only_what_the_fault_did_is_counted() -> None:
    found = figures()
    assert (found.sent, found.failed) == (3, {"UNAVAILABLE": 1})
    assert (found.with_fallbacks, found.fallbacks) == (1, {"features/planes:stale": 1})
    assert (found.slowest_s, found.detected_s, found.recovered_s) == (1.0, 3.0, 0.5)
    assert EXPECTED.broken(found) == []


def test_what_it_cost_in_a_sentence() -> None:
    said = "3 requests, 1 failed (UNAVAILABLE 1); 1 answered with a fallback; alert after 3 s; well again after 0.5 s"
    assert figures().sentence() == said


def test_of_a_harmless_fault_few_requests_may_be_late() -> None:
    expected = Expectation.harmless("tenants", "broken", "put back", "HeadraceTenantsBroken")
    late = counted(
        [Request(10.0, 0.1, "OK", ("features/planes:stale",))] * 99
        + [Request(10.0, 1.0, "DEADLINE_EXCEEDED")],
        begun=10.0,
        mended=12.0,
        detected=11.0,
        recovered=True,
    )
    assert expected.broken(late) == []
    assert expected.broken(replace(late, failed={"INTERNAL": 1})) == ["requests failed with INTERNAL"]
    [said] = expected.broken(replace(late, failed={"UNAVAILABLE": 3}))
    assert "2.0% at most" in said


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        (EXPECTED, figures(detected=None), "HeadraceCrashLoop was not told"),
        (EXPECTED, figures(recovered=False), "it did not recover"),
        (replace(EXPECTED, recovery_s=0.4), figures(), "it recovered after 0.5 s, not 0.4"),
        (replace(EXPECTED, codes=frozenset()), figures(), "requests failed with UNAVAILABLE"),
        (replace(EXPECTED, fallbacks=()), figures(), "rows had the fallbacks features/planes:stale"),
        (EXPECTED, replace(figures(), sent=0), "no request was sent"),
    ],
)
def test_what_is_not_as_expected_is_told(expected: Expectation, found: Figures, said: str) -> None:
    assert expected.broken(found) == [said]
    assert f"no: {said}" in table.row(expected, found, "real")


def test_a_row_has_a_cell_for_each_head() -> None:
    head = table.HEAD.splitlines()[0]
    assert table.row(EXPECTED, figures(), "1:60").count("|") == head.count("|")


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_game_day_expects_an_alert_that_there_is(name: str) -> None:
    assert FAULTS[name].expected.name == name
    assert FAULTS[name].expected.alert in alert_names()


def test_each_fault_can_be_reported() -> None:
    report = Report(datetime(2026, 1, 1, tzinfo=UTC), 60.0)
    report.played = [(fault.expected, figures()) for fault in FAULTS.values()]
    assert [played["fault"] for played in json.loads(report.json())["played"]] == list(FAULTS)
    assert all(f"| {name} |" in report.text() for name in FAULTS)

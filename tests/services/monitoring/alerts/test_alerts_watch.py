"""Monitoring's own alerts: the same as those of Prometheus's rules on the same series, with texts, silences, and their ends."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headrace.slo.rules import BURN
from services.ingress.reporting.metrics import Metrics
from services.monitoring.alerts.conditions import MISSING, TABLE
from services.monitoring.database.facts import Facts
from tests.libs.pipeline.pipeline_documents import parsed
from tests.libs.slo.promtool_case import Case, cases
from tests.services.monitoring.alerts.alert_replay import MIDNIGHT, Monitoring, door, replayed
from tests.services.monitoring.monitoring_outcomes import facts_at

OWN = {BURN, f"Headrace{MISSING}", *(f"Headrace{c.alert}" for c in TABLE)}


CASES = [*cases("burns"), *cases("days of burns"), *cases("causes")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_says_what_prometheus_says_of_the_same_series(case: Case) -> None:
    """`promtool test rules` has the same cases (test_slo_promtool.py)."""
    with closing(facts_at()) as facts:
        for name, instant, levels, found in replayed(case, facts):
            if name in OWN:
                exactly = (lambda these: these) if name == BURN else bool
                assert (name, instant, exactly(found)) == (name, instant, exactly(sorted(levels)))


def test_each_condition_of_growth_has_a_case() -> None:
    tested = {alert for case in CASES for alert, _, _ in case.expected}
    assert {f"Headrace{c.alert}" for c in TABLE if c.within_s} <= tested


def test_a_door_that_is_restarted_and_a_monitoring_that_was_away_count_each_request_once(
    facts: Facts,
) -> None:
    first = Monitoring(facts)
    first.read({"a": door(1000, 900)})  # what was before is not known
    first.now += 15
    first.read({"a": door(1100, 905), "b": door(10, 5)})
    second = Monitoring(facts)
    second.now = first.now + 7200
    second.read({"a": door(2100, 1905), "b": door(10, 5)})
    # The 1,000 bad ones count as of an hour ago: tickets, but no page.
    assert second.firing(BURN) == ["1.1x", "1x", "3x"]
    assert second.left == pytest.approx(1 - (1010 / 1110) / 0.001)


def test_it_reads_what_a_door_says(facts: Facts) -> None:
    registry = CollectorRegistry()
    Metrics(registry).follow([parsed()])
    monitoring = Monitoring(facts)
    monitoring.read({"door": generate_latest(registry).decode().splitlines()})
    assert b'"objective": "availability"' in monitoring.watch.query("query=headrace_slo:target")


def test_sums_by_longer_buckets_are_the_same_sums(facts: Facts) -> None:
    monitoring = Monitoring(facts)
    for minute in range(0, 6 * 1440, 53):
        monitoring.now = MIDNIGHT + 60 * minute
        monitoring.read({"a": door(100 * minute, minute)})
    # 1 of 100, of a budget of 0.1 %.
    assert monitoring.left == pytest.approx(1 - 10, rel=1e-6)


def test_what_is_gone_has_neither_alert_nor_series(facts: Facts) -> None:
    monitoring = Monitoring(facts)
    for minute in range(10):
        monitoring.now += 60
        monitoring.read({"a": [*door(100 * minute, 100 * minute), "headrace_audit_failing 1"]})
    assert monitoring.firing("HeadraceAuditFailing") == [""]
    assert monitoring.firing(BURN)
    assert monitoring.left is not None
    monitoring.now += 60
    monitoring.read({"a": []})
    assert monitoring.watch.alerts() == []
    assert monitoring.left is None


def test_alerts_have_texts_and_are_silenced_and_explained_by_faster_ones(facts: Facts) -> None:
    monitoring = Monitoring(facts)
    for minute in range(10):
        monitoring.now += 60
        monitoring.read({"door.1": door(100 * minute, 100 * minute)})
    found = {a.labels["level"]: a for a in monitoring.watch.alerts()}
    assert found["14.4x"].state == "active"
    assert found["14.4x"].annotations == {
        "summary": "small: the error budget of its availability burns at 1000 times the even pace",
        "next_step": "headrace slo status",
        "runbook": "deploy/runbooks/error-budget-burn.md",
    }
    assert {a.state for level, a in found.items() if level != "14.4x"} == {"suppressed"}
    assert found["6x"].inhibitors == (found["14.4x"].fingerprint,)
    now = datetime.fromtimestamp(monitoring.now, UTC)
    identity = monitoring.watch.silence({"pipeline": "small"}, now, now + timedelta(hours=1), "ann", "known")
    assert monitoring.watch.silences()[identity].comment == "known"
    assert {a.state for a in monitoring.watch.alerts()} == {"suppressed"}
    monitoring.now += 3601
    assert monitoring.watch.silences() == {}


def test_a_failure_is_not_the_readers_and_the_next_evaluation_works(tmp_path: Path) -> None:
    (tmp_path / "facts").mkdir()
    with closing(facts_at(tmp_path / "facts")) as facts:
        monitoring = Monitoring(facts)
        monitoring.read({"a": door(1, 0)})
        (tmp_path / "facts").rmdir()
        monitoring.now += 15
        monitoring.read({"a": door(2, 0)})
    assert len(monitoring.told) == 1

"""The rules under Prometheus's own evaluation, in its virtual time: real windows, and causes of all kinds.

`promtool test rules` gets series and instants at which alerts must fire or must not. It evaluates every rule at every step, so
days of it are slow tests, and each file of tests loads only the rules that it is about.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.slo import alert_names, alerts
from tests.alerts.test_alerts_provoked import NOT_PROVOKED
from tests.libs.slo.alert_world import RULES
from tests.libs.slo.burn_cases import BURNS, DAYS_OF_BURNS
from tests.libs.slo.cause_cases import CAUSES
from tests.libs.slo.promtool_case import case
from tests.libs.slo.seen_cases import SEEN
from tests.programs import needs_program

# Anomalies.
WEEKS = [
    case(
        "three weeks of the same, then three times as much of everything; of a pipeline that few use, too",
        {
            'headrace_ingress_requests_total{pipeline="small",code="OK",fault="none"}': "0+600x3200 1922400+1800x40",
            'headrace_ingress_requests_total{pipeline="small",code="INVALID_ARGUMENT",fault="caller"}': (
                "0+100x3200 320300+300x40"
            ),
            'headrace_ingress_requests_total{pipeline="few",code="INVALID_ARGUMENT",fault="caller"}': (
                "0+1x3200 3203+3x40"
            ),
            'headrace_ingress_security_events_total{kind="denied"}': "0+20x3200 64060+60x40",
        },
        {
            name: {"530h": [], "537h": [""]}
            for name in (
                "HeadraceTrafficAnomaly",
                "HeadraceCallerErrorsAnomaly",
                "HeadraceSecurityEventsAnomaly",
            )
        },
        interval="10m",
    ),
    case(
        "three weeks of the same, then none: callers are gone, which is an alarm; that they err no more is none",
        {
            'headrace_ingress_requests_total{pipeline="small",code="OK",fault="none"}': "0+600x3200 1920000x40",
            'headrace_ingress_requests_total{pipeline="small",code="INVALID_ARGUMENT",fault="caller"}': (
                "0+100x3200 320000x40"
            ),
            'headrace_ingress_security_events_total{kind="denied"}': "0+20x3200 64000x40",
        },
        {
            "HeadraceTrafficAnomaly": {"530h": [], "537h": [""]},
            "HeadraceCallerErrorsAnomaly": {"537h": []},
            "HeadraceSecurityEventsAnomaly": {"537h": []},
        },
        interval="10m",
    ),
]


def test_each_alert_has_a_case_but_for_plain_thresholds_that_are_provoked() -> None:
    cases = [*BURNS, *DAYS_OF_BURNS, *CAUSES, *SEEN, *WEEKS]
    told = " ".join(test["expr"] for one in cases for test in one["promql_expr_test"])
    missing = {n for n in alert_names(RULES) if n not in told}
    assert not missing & NOT_PROVOKED.keys()
    assert not [
        r["alert"] for r in alerts(RULES) if r["alert"] in missing and re.search(r"\[|offset", r["expr"])
    ]


def promtool(folder: Path, group: str, every: str, cases: list[dict[str, Any]]) -> None:
    """Fails with promtool's words if a case is not as expected. `every`: the interval at which rules of `group` are evaluated."""
    rules = {
        "groups": [g for g in yaml.safe_load(RULES.read_text())["groups"] if re.search(group, g["name"])]
    }
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": every, "tests": cases}
    (folder / "tests.yml").write_text(json.dumps(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_program("promtool")
def test_promises_alert_at_the_pace_that_errors_have(tmp_path: Path) -> None:
    promtool(tmp_path, "objectives", "5m", BURNS)


@needs_program("promtool")
def test_alerts_fire_for_their_causes_and_end_with_them(tmp_path: Path) -> None:
    promtool(tmp_path, "headrace$", "1m", [*CAUSES, *SEEN])


@pytest.mark.slow
@needs_program("promtool")
def test_the_real_windows_of_days_alert_as_they_should(tmp_path: Path) -> None:
    promtool(tmp_path, "objectives", "5m", DAYS_OF_BURNS)


@pytest.mark.slow
@needs_program("promtool")
def test_a_noisy_signal_is_compared_with_the_weeks_before(tmp_path: Path) -> None:
    promtool(tmp_path, "anomalies", "10m", WEEKS)

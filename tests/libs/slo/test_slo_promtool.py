"""The rules under Prometheus's own evaluation, in its virtual time: real windows, and causes of all kinds.

`promtool test rules` gets series and instants at which alerts must fire or must not. It evaluates every rule at every step, so
days of it are slow tests, and each file of tests loads only the rules that it is about.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from headrace.slo import alert_names, alerts
from headrace.slo.rules import RULES
from tests.alerts.test_alerts_provoked import NOT_PROVOKED
from tests.libs.slo.promtool_case import Case, cases
from tests.programs import needs_program

CAUSES = cases("causes")
SECTIONS = (CAUSES, cases("burns"), cases("days of burns"), cases("weeks"))


def test_each_alert_has_a_case_but_for_plain_thresholds_that_are_provoked() -> None:
    tested = {alert for section in SECTIONS for case in section for alert, _, _ in case.expected}
    missing = {n for n in alert_names() if n not in tested}
    assert not missing & NOT_PROVOKED.keys()
    assert not [r["alert"] for r in alerts() if r["alert"] in missing and re.search(r"\[|offset", r["expr"])]


def promtool(folder: Path, group: str, every: str, tested: list[Case]) -> None:
    """Fails with promtool's words if a case is not as expected. `every`: the interval at which rules of `group` are evaluated."""
    rules = {
        "groups": [g for g in yaml.safe_load(RULES.read_text())["groups"] if re.search(group, g["name"])]
    }
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    tests = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": every,
        "tests": [c.promtool() for c in tested],
    }
    (folder / "tests.yml").write_text(json.dumps(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_program("promtool")
def test_promises_alert_at_the_pace_that_errors_have(tmp_path: Path) -> None:
    promtool(tmp_path, "objectives", "5m", cases("burns"))


@needs_program("promtool")
def test_alerts_fire_for_their_causes_and_end_with_them(tmp_path: Path) -> None:
    promtool(tmp_path, "headrace$", "1m", CAUSES)


@pytest.mark.slow
@needs_program("promtool")
def test_the_real_windows_of_days_alert_as_they_should(tmp_path: Path) -> None:
    promtool(tmp_path, "objectives", "5m", cases("days of burns"))


@pytest.mark.slow
@needs_program("promtool")
def test_a_noisy_signal_is_compared_with_the_weeks_before(tmp_path: Path) -> None:
    promtool(tmp_path, "anomalies", "10m", cases("weeks"))

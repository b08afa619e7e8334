"""The files of deploy/alerts: names that exist, times that a Prometheus keeps, and the same rules for Kubernetes."""

import json
import re
import subprocess
import sys
import zipfile
from itertools import chain
from pathlib import Path

import yaml

from headrace.slo import alert_names, alerts, runbook
from headrace.slo.rules import RULES
from services.monitoring.alerts.conditions import METRICS, MISSING, TABLE
from tests.golden.names import current
from tests.libs.slo.alert_world import SERVERS
from tests.programs import needs_program
from tests.system import ROOT

_SUFFIX = re.compile(r"_(total|bucket|count|sum|created)$")
_DAYS = {"m": 1 / 1440, "h": 1 / 24, "d": 1}


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def named(*expressions: str) -> set[str]:
    """Names of our metrics, without the endings of their series."""
    return {_SUFFIX.sub("", n) for e in expressions for n in re.findall(r"headrace_\w+(?![\w:])", e)}


def existing() -> set[str]:
    return named(*current("metrics"))


def test_alerts_name_metrics_that_exist() -> None:
    found = named(*(rule["expr"] for rule in rules()))
    assert len(found) > 20
    recorded = {n for n in found if n.startswith(("headrace_signal", "headrace_slo"))}
    assert found - recorded - existing() == set()


def test_conditions_name_alerts_and_metrics_that_exist() -> None:
    assert {f"Headrace{c.alert}" for c in TABLE} | {f"Headrace{MISSING}"} <= set(alert_names())
    names = current("metrics")
    for metric in METRICS:
        assert any(re.fullmatch(metric.removesuffix("_total"), _SUFFIX.sub("", n)) for n in names), metric


def test_panels_name_metrics_and_records_that_exist() -> None:
    boards = {path.stem: json.loads(path.read_text()) for path in (ROOT / "deploy/dashboards").glob("*.json")}
    assert boards.keys() == {"executive", "on-call", "debug"}
    asked = [t["expr"] for b in boards.values() for p in b["panels"] for t in p.get("targets", ())]
    assert len(named(*asked)) > 15
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert named(*asked) - existing() == set()
    assert set(re.findall(r"headrace_\w+:\w+", " ".join(asked))) <= recorded


def test_rules_use_what_is_recorded_and_what_a_prometheus_keeps() -> None:
    """15 days, if nobody says otherwise."""
    text = " ".join(rule["expr"] for rule in rules())
    assert set(re.findall(r"headrace_\w+:\w+", text)) <= {rule.get("record") for rule in rules()}
    ranges = {float(n) * _DAYS[unit] for n, unit in re.findall(r"\[(\d+)([mhd])\]", text)}
    offsets = {float(n) * _DAYS[unit] for n, unit in re.findall(r"offset (\d+)([mhd])", text)}
    assert max(ranges) == 3
    assert max(offsets) < 14


def test_each_alert_names_its_runbook() -> None:
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"deploy/runbooks/{runbook(rule['alert'])}"


def test_alerts_that_others_explain_exist() -> None:
    config = yaml.safe_load((SERVERS / "alertmanager.yml").read_text())
    matchers = chain.from_iterable(
        r["source_matchers"] + r["target_matchers"] for r in config["inhibit_rules"]
    )
    found = {
        n
        for text in matchers
        if "alertname" in text
        for n in re.findall(r"[A-Z]\w+", text.replace("Headrace", ""))
    }
    assert "TargetDown" in found
    assert {f"Headrace{name}" for name in found} <= set(alert_names())


def test_the_rules_of_kubernetes_are_made_of_the_same_file() -> None:
    """By the line that the page of Kubernetes says."""
    page = (ROOT / "deploy/kubernetes/README.md").read_text()
    (line,) = re.findall(r"^(\(echo .*rules\.yml\)) \| kubectl apply -f -$", page, re.MULTILINE)
    made = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    resource = yaml.safe_load(made)
    assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert resource["spec"] == yaml.safe_load(RULES.read_text())


@needs_program("promtool")
@needs_program("amtool")
def test_the_checkers_of_prometheus_and_alertmanager_agree() -> None:
    for program in (
        ["promtool", "check", "rules", str(RULES)],
        ["amtool", "check-config", "alertmanager.yml"],
    ):
        done = subprocess.run(program, cwd=SERVERS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_wheel_has_the_rules_so_that_a_container_knows_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert wheel.read("headrace/slo/rules.yml") == RULES.read_bytes()

"""The dashboards are as they are described, ask for metrics that exist, and have the panels that people need."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from headrace.dashboards import DASHBOARDS, DEBUG, EXECUTIVE, ON_CALL, Dashboard, Panel, grafana
from headrace.slo import SloSettings, generate
from headrace.slo.generate import OBJECTIVE_RULES
from tests.libs.slo.slo_documents import PLACES, promising
from tests.libs.slo.test_slo_catalogue import existing
from tests.programs import needs_program

FOLDER = Path(__file__).parents[3] / "deploy/dashboards"
_SUFFIX = re.compile(r"_(total|bucket|count|sum)$")
_VARIABLES = {"$__rate_interval": "1m", "$__range": "1h"}


def panels() -> list[Panel]:
    return [panel for dashboard in DASHBOARDS for panel in dashboard.panels]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_what_is_committed_is_what_is_described(dashboard: Dashboard) -> None:
    committed = (FOLDER / f"{dashboard.name}.json").read_text()
    assert committed == grafana(dashboard), "python -m headrace.dashboards deploy/dashboards"


def test_no_other_file_lies_there() -> None:
    assert {p.stem for p in FOLDER.glob("*.json")} == {d.name for d in DASHBOARDS}


@pytest.mark.parametrize(
    ("dashboard", "titles"),
    [
        (EXECUTIVE, ["Availability", "Cost", "Burn rate", "Weekly accuracy", "Error budget"]),
        (
            ON_CALL,
            [
                "Promises now",
                "Latency p95 and p99",
                "Error rate",
                "Alerts that fire",
                "Top failing",
                "Errors of models",
            ],
        ),
        (
            DEBUG,
            ["Traces", "Time of models", "Freshness", "Kept answers", "Utilisation of GPUs", "Retraining"],
        ),
    ],
)
def test_each_has_the_panels_that_were_asked_for(dashboard: Dashboard, titles: list[str]) -> None:
    there = [panel.title for panel in dashboard.panels]
    assert [t for t in titles if not any(title.startswith(t) for title in there)] == []


def test_panels_ask_for_metrics_that_exist() -> None:
    rules = generate([promising("{availability: 0.99}")], SloSettings(), PLACES)[OBJECTIVE_RULES]
    asked = {
        _SUFFIX.sub("", name)
        for panel in panels()
        if not panel.pending and not panel.recorded
        for expression, _ in panel.queries
        for name in re.findall(r"headrace_[\w:]+", expression)
    }
    recorded = set(re.findall(r"headrace_slo:\w+", rules))
    assert len(asked) > 15
    assert asked - existing() - recorded == set()


def test_panels_do_not_overlap_and_fill_no_more_than_the_width() -> None:
    for dashboard in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(grafana(dashboard))["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken
            assert at["x"] + at["w"] <= 24
            taken |= cells


@needs_program("promtool")
def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    rules: list[dict[str, str]] = []
    for panel in panels():
        for expression, _ in panel.queries:
            for name, value in _VARIABLES.items():
                expression = expression.replace(name, value)
            rules.append({"record": f"panel:{len(rules)}", "expr": expression})
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

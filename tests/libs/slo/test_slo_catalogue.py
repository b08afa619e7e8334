"""Every alert and every panel of a dashboard names metrics that the services have."""

import json
import re
from pathlib import Path

from headrace.slo import SloSettings, alert_names, generate
from headrace.slo.catalogue import groups
from headrace.slo.generate import OBJECTIVE_RULES
from tests.golden.names import golden
from tests.libs.slo.slo_documents import PLACES, promising

DASHBOARDS = Path(__file__).parents[3] / "deploy/dashboards"
_SUFFIX = re.compile(r"_(total|bucket|count|sum|created)$")


def named(*expressions: str) -> set[str]:
    """Names of our metrics, without the endings of their series."""
    return {_SUFFIX.sub("", n) for e in expressions for n in re.findall(r"headrace_\w+(?![\w:])", e)}


def existing() -> set[str]:
    return named(golden("metrics").read_text())


def test_alerts_name_metrics_that_exist() -> None:
    found = named(*(rule["expr"] for group in groups() for rule in group["rules"]))
    assert len(found) > 20
    assert {n for n in found if not n.startswith("headrace_signal")} - existing() == set()


def test_panels_name_metrics_and_records_that_exist() -> None:
    rules = generate([promising("{availability: 0.99}")], SloSettings(), PLACES)[OBJECTIVE_RULES]
    boards = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS.glob("*.json")}
    assert boards.keys() == {"executive", "on-call", "debug"}
    asked = [t["expr"] for b in boards.values() for p in b["panels"] for t in p.get("targets", ())]
    assert len(named(*asked)) > 15
    assert named(*asked) - existing() == set()
    recorded = re.compile(r"headrace_\w+:\w+")
    assert set(recorded.findall(" ".join(asked))) - set(recorded.findall(rules)) == set()


def test_names_of_alerts_are_not_given_twice() -> None:
    assert sorted(set(alert_names())) == sorted(alert_names())

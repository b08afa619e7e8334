"""All files of an installation's alerts, as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from headrace.pipeline import DocumentError, Pipeline
from headrace.slo import burn_rules
from headrace.slo.alertmanager import alertmanager
from headrace.slo.catalogue import paced_groups, runbook
from headrace.slo.levels import FLOOR_SCRAPES, levels
from headrace.slo.objectives import Slo, problems, slos
from headrace.slo.promql import duration
from headrace.slo.settings import SloSettings

OBJECTIVE_RULES, ALERT_RULES = "rules/objectives.yml", "rules/alerts.yml"
PROMETHEUS, ALERTMANAGER = "prometheus.yml", "alertmanager.yml"
_HEAD = "# Made by `headrace slo rules` from pipeline documents and settings/slo.yaml; changes are lost.\n"
# The budget over the whole period is a long query; it needs no haste.
_BUDGET_EVERY_S = 300.0


@dataclass(frozen=True, slots=True)
class Places:
    """`folder`: where the files will lie. `targets`: the file in which Prometheus finds the services."""

    folder: Path
    targets: Path


def generate(pipelines: Iterable[Pipeline], settings: SloSettings, places: Places) -> dict[str, str]:
    """Relative path → content. Raises DocumentError: an objective could never alert."""
    documents = list(pipelines)
    if wrong := [problem for document in documents for problem in problems(document)]:
        raise DocumentError(wrong)
    promised = slos(documents, settings.pace, settings.default_availability)
    floor_s = FLOOR_SCRAPES * settings.scrape_interval_s
    return {
        OBJECTIVE_RULES: _rules(objective_groups(promised, settings)),
        ALERT_RULES: _rules(paced_groups(settings.pace, floor_s)),
        ALERTMANAGER: _text(alertmanager(settings)),
        PROMETHEUS: _text(_prometheus(settings, places)),
    }


def objective_groups(promised: Sequence[Slo], settings: SloSettings) -> list[dict[str, Any]]:
    """Groups of rules: for each promise one, and one for its budget over the whole period."""
    found: list[dict[str, Any]] = []
    for slo in promised:
        chosen = levels(slo.period_s, settings.scrape_interval_s)
        rules = [*burn_rules.records(slo, chosen), *burn_rules.alerts(slo, chosen, settings.min_bad)]
        name = f"headrace {slo.pipeline} {slo.objective}"
        found.append({"name": name, "rules": rules})
        every = max(_BUDGET_EVERY_S / settings.pace, settings.scrape_interval_s)
        budget = [burn_rules.budget_record(slo)]
        found.append({"name": f"{name} budget", "interval": duration(every), "rules": budget})
    return found


def _prometheus(settings: SloSettings, places: Places) -> dict[str, Any]:
    return {
        "global": {
            "scrape_interval": duration(settings.scrape_interval_s),
            "evaluation_interval": duration(settings.scrape_interval_s),
        },
        "rule_files": [str(places.folder / OBJECTIVE_RULES), str(places.folder / ALERT_RULES)],
        "alerting": {
            "alertmanagers": [
                {
                    "scheme": urlsplit(settings.alertmanager).scheme or "http",
                    "static_configs": [{"targets": [urlsplit(settings.alertmanager).netloc]}],
                }
            ]
        },
        "scrape_configs": [
            {"job_name": "headrace", "file_sd_configs": [{"files": [str(places.targets)]}]},
        ],
    }


def _rules(groups: Iterable[Mapping[str, Any]]) -> str:
    """A file of rules; each alert names its runbook."""
    return _text(
        {"groups": [{**group, "rules": [_with_runbook(rule) for rule in group["rules"]]} for group in groups]}
    )


def _with_runbook(rule: dict[str, Any]) -> dict[str, Any]:
    if "alert" not in rule:
        return rule
    page = {"runbook": f"deploy/runbooks/{runbook(rule['alert'])}"}
    return {**rule, "annotations": {**rule["annotations"], **page}}


def _text(content: Mapping[str, Any]) -> str:
    # Through JSON: YAML would write a list that is used twice as an alias.
    return _HEAD + yaml.safe_dump(
        json.loads(json.dumps(content)), sort_keys=False, width=4096, allow_unicode=True
    )

"""The alerts beside the objectives: `alerts.yml`, a file of rules by hand.

Each alert names metrics that exist (a test compares them with the services) and has a runbook in deploy/runbooks.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from headrace.slo.burn_rules import NAMES
from headrace.slo.promql import duration, paced, seconds

_FILE = Path(__file__).with_name("alerts.yml")
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")


@cache
def groups() -> list[dict[str, Any]]:
    """The groups of rules as the file has them."""
    found: list[dict[str, Any]] = yaml.safe_load(_FILE.read_text())["groups"]
    return found


def paced_groups(pace: float, floor_s: float) -> list[dict[str, Any]]:
    """The groups with all times divided by `pace`. `floor_s`: no range is shorter."""
    return [
        {**group, "rules": [_paced(rule, pace, floor_s) for rule in group["rules"]]} for group in groups()
    ]


def alerts() -> list[dict[str, Any]]:
    """The alerts of the file."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


def alert_names() -> list[str]:
    """Names of all alerts that can be generated."""
    return [*NAMES.values(), *(rule["alert"] for rule in alerts())]


def runbook(name: str) -> str:
    """HeadraceModelErrors → model-errors.md."""
    return _WORDS.sub("-", name.removeprefix("Headrace")).lower() + ".md"


def _paced(rule: dict[str, Any], pace: float, floor_s: float) -> dict[str, Any]:
    made = {**rule, "expr": paced(rule["expr"], pace, floor_s)}
    if "for" in rule:
        made["for"] = duration(seconds(rule["for"]) / pace)
    return made

"""The alerts of `rules.yml`: their names, texts and runbooks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# Prometheus reads it too.
RULES = Path(__file__).with_name("rules.yml")
BURN = "HeadraceErrorBudgetBurn"
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")
_LABEL = re.compile(r"{{ *\$labels\.(\w+) *}}")
_VALUE = re.compile(r"{{ *\$value[^}]*}}")


def alerts() -> list[dict[str, Any]]:
    """The rules that are alerts, as they are there."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def alert_names() -> list[str]:
    """Each name once, in the order of the file."""
    return list(dict.fromkeys(rule["alert"] for rule in alerts()))


def runbook(name: str) -> str:
    """HeadraceModelErrors → model-errors.md."""
    return _WORDS.sub("-", name.removeprefix("Headrace")).lower() + ".md"


def annotated(rule: Mapping[str, Any], labels: Mapping[str, str], value: float) -> dict[str, str]:
    """Its annotations with labels and value filled in."""
    return {
        name: _VALUE.sub(f"{value:.4g}", _LABEL.sub(lambda found: labels.get(found[1], ""), text))
        for name, text in rule["annotations"].items()
    }

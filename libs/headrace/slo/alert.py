"""What every alert has: who is told, and its runbook."""

from __future__ import annotations

import re

# Page: somebody must act now. Ticket: within days.
PAGE, TICKET = "page", "ticket"
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")
# Two scrapes may be missed, and a rate needs two samples.
FLOOR_SCRAPES = 4


def runbook(name: str) -> str:
    """HeadraceModelErrors → model-errors.md."""
    return _WORDS.sub("-", name.removeprefix("Headrace")).lower() + ".md"


def runbook_annotation(name: str) -> dict[str, str]:
    """The annotation that names an alert's page."""
    return {"runbook": f"deploy/runbooks/{runbook(name)}"}

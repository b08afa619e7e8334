"""One alert, and how it becomes a rule of Prometheus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from headrace.slo.promql import duration, paced

# Page: somebody must act now. Ticket: within days.
PAGE, TICKET = "page", "ticket"
MINUTE_S = 60.0
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")
# Two scrapes may be missed, and a rate needs two samples.
FLOOR_SCRAPES = 4


@dataclass(frozen=True, slots=True)
class Alert:
    """`expr`: PromQL that holds while something is wrong. `for_s`: how long before somebody is told. `summary`: one sentence,
    with Prometheus's templates. `next_step`: the command to begin with. `follows`: alerts that explain this one, which is not
    sent while one of them fires. `failure`: the id of the failure mode (F1 to F7), or ""."""

    name: str
    severity: str
    expr: str
    for_s: float
    summary: str
    next_step: str
    follows: tuple[str, ...] = ()
    failure: str = ""

    @property
    def runbook(self) -> str:
        """File of the runbook in deploy/runbooks."""
        return runbook(self.name)

    def rule(self, pace: float, floor_s: float) -> dict[str, Any]:
        """The rule, with all times divided by `pace`."""
        return rule(
            self.name,
            paced(self.expr, pace, floor_s),
            for_s=self.for_s / pace,
            labels={"severity": self.severity},
            annotations={"summary": self.summary, "next_step": self.next_step},
        )


def runbook(name: str) -> str:
    """HeadraceModelErrors → model-errors.md."""
    return _WORDS.sub("-", name.removeprefix("Headrace")).lower() + ".md"


def rule(
    name: str, expr: str, *, for_s: float, labels: dict[str, str], annotations: dict[str, str]
) -> dict[str, Any]:
    """A rule of Prometheus that names its runbook."""
    told = {**annotations, "runbook": f"deploy/runbooks/{runbook(name)}"}
    timed = {"for": duration(for_s)} if for_s else {}
    return {"alert": name, "expr": expr, **timed, "labels": labels, "annotations": told}

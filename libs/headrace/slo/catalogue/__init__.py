"""The alerts beside the objectives, by what they watch; a file each.

Each names metrics that exist (a test compares them with the services) and has a runbook in deploy/runbooks. `promql.paced`
scales expressions, so all times in them are ranges or offsets.
"""

from headrace.slo.burn_rules import NAMES
from headrace.slo.catalogue.anomalies import ANOMALIES
from headrace.slo.catalogue.audit import AUDIT
from headrace.slo.catalogue.cost import COST
from headrace.slo.catalogue.drift import DRIFT
from headrace.slo.catalogue.events import EVENTS
from headrace.slo.catalogue.features import FEATURES
from headrace.slo.catalogue.models import MODELS
from headrace.slo.catalogue.processes import PROCESSES
from headrace.slo.catalogue.refusals import REFUSALS
from headrace.slo.catalogue.releases import RELEASES

__all__ = ["ALERTS", "ANOMALIES", "alert_names"]

ALERTS = (*PROCESSES, *REFUSALS, *FEATURES, *MODELS, *RELEASES, *DRIFT, *EVENTS, *AUDIT, *COST)


def alert_names() -> list[str]:
    """Names of all alerts that can be generated."""
    return [*NAMES.values(), *(alert.name for alert in (*ALERTS, *ANOMALIES))]

"""What the routes answer from."""

from __future__ import annotations

from dataclasses import dataclass

from services.monitoring.console.actions import Actions
from services.monitoring.console.audit_log import AuditLog
from services.monitoring.console.incidents.page import Incidents
from services.monitoring.console.pages import Pages
from services.monitoring.console.requests.page import Requests


@dataclass(frozen=True, slots=True)
class Parts:
    """All that the console shows and does."""

    pages: Pages
    actions: Actions
    requests: Requests
    incidents: Incidents
    audit_log: AuditLog

"""Settings of the alerts that monitoring evaluates itself."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from headrace.hop.config import Settings
from headrace.slo.settings import Webhooks


class AlertSettings(Settings):
    """They are evaluated wherever processes are read for their cost."""

    # deploy/alerts/rules.yml, for names and texts. Absent: no alert is evaluated; budgets are.
    rules: Path | None = None
    # By severity, where to post what fires. None where Alertmanager does this.
    webhooks: Webhooks = Field(default_factory=dict)

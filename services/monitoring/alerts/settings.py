"""Settings of the alerts that monitoring evaluates itself."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from headrace.hop.config import Settings
from headrace.slo.settings import Webhooks


class AlertSettings(Settings):
    """It evaluates alerts wherever it reads processes for their cost."""

    # deploy/alerts/rules.yml, for names and texts. Absent: no alert is evaluated; budgets are.
    rules: Path | None = None
    # By severity (page, ticket), where to post what fires; a severity without a URL is not told. Leave it out where
    # Alertmanager does this.
    webhooks: Webhooks = Field(default_factory=dict)

    @field_validator("webhooks")
    @classmethod
    def _http(cls, webhooks: Webhooks) -> Webhooks:
        for severity, url in webhooks.items():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{severity}: begins with neither http:// nor https://")
        return webhooks

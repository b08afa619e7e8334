"""Who is asked and told of alerts: `HOME/settings/slo.yaml`. All keys may be absent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headrace.hop.config import Settings

Webhooks = dict[Literal["page", "ticket"], Annotated[str, Field(pattern="^https?://")]]


class SloSettings(Settings):
    """Without Prometheus and Alertmanager, monitoring itself knows what fires, and tells it."""

    # Where they answer, such as http://127.0.0.1:9090.
    prometheus: str = ""
    alertmanager: str = ""
    # By severity, whom monitoring tells where there is no Alertmanager.
    webhooks: Webhooks = Field(default_factory=dict)

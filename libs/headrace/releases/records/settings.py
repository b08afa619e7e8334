"""How changes of what is live are recorded. Apart from what does so: every service's settings name it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from headrace.hop import config
from headrace.releases.records.webhook import WebhookSettings


class RecordSettings(config.Settings):
    """How changes of what is live are recorded."""

    # An audit beside that of control, a hash chain: file of this machine.
    audit: Path | None = None
    # Name of this machine in the audit. Empty: its host name.
    machine: str = Field(default="", max_length=200)
    webhook: WebhookSettings | None = None

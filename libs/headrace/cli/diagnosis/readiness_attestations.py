"""What no command can see: who is on call, that a scan was made, that a plan was agreed. People say so, with a date, in
`HOME/settings/readiness.yaml`; what was said too long ago does not count any more.

on_call: {by: "Ada", date: 2026-11-01, note: "rota in the paging service, escalation to the platform's owner"}
"""

from __future__ import annotations

from datetime import date, timedelta

from pydantic import Field

from headrace.cli.installation.layout import Layout
from headrace.hop import config


class Attestation(config.Settings):
    """Who says so, when, and where it can be read."""

    by: str = Field(min_length=1)
    date: date
    note: str = ""


class ReadinessSettings(config.Settings):
    """The file's keys. One that is absent was not said."""

    # After so many days it must be said again.
    valid_days: int = Field(default=180, ge=1)
    security_scan: Attestation | None = None
    on_call: Attestation | None = None
    capacity_plan: Attestation | None = None
    retention: Attestation | None = None
    # Every volume, database and bucket with data of this installation is encrypted. The door takes it over when it starts.
    encryption: Attestation | None = None

    def end(self, said: Attestation) -> date:
        """The last day on which it counts."""
        return said.date + timedelta(days=self.valid_days)


def read(layout: Layout) -> ReadinessSettings:
    """Raises ConfigError naming file, line and key."""
    path = layout.override("readiness")
    return config.load(ReadinessSettings, path, {}) if path.exists() else ReadinessSettings()

"""Where the audit of an installation is, and who witnesses it: `HOME/settings/audit.yaml`, or the defaults.

witnesses:
  second: {url: "http://audit.internal:9099", key: /etc/headrace/second.pub}
  tsa: {timestamp_url: "https://tsa.example.org/tsr", key: /etc/headrace/tsa-roots.pem}
persons_days: 90
persons_bytes: 1000000000
"""

from __future__ import annotations

import secrets

from pydantic import Field, PositiveFloat, PositiveInt

from headrace.audit.notes import NoteError, ensure_keys
from headrace.audit.settings import AuditSettings, WitnessSettings
from headrace.cli.installation.layout import Layout
from headrace.hop import config


class AuditFile(config.Settings):
    """The file's keys; all may be absent."""

    witnesses: dict[str, WitnessSettings] = Field(default={}, max_length=16)
    checkpoint_s: PositiveFloat = 10.0
    # Lines that tell of persons are deleted so many days later.
    persons_days: PositiveFloat = 365.0
    # And the oldest of them once all have more bytes than this.
    persons_bytes: PositiveInt = 1 << 30


def settings(layout: Layout) -> AuditSettings:
    """Raises ConfigError naming file, line and key."""
    path = layout.override("audit")
    own = config.load(AuditFile, path, {}) if path.exists() else AuditFile()
    try:
        return AuditSettings(
            folder=layout.audit,
            key=layout.audit_key,
            public_key=layout.audit_public_key,
            models=layout.model_log,
            releases=layout.release_log,
            deployments=layout.deployment_log,
            security=layout.security_log,
            **{name: getattr(own, name) for name in AuditFile.model_fields},
        )
    except ValueError as error:
        raise config.ConfigError(f"{path}: {error}") from error


def ensure(layout: Layout) -> bool:
    """Makes the log's keys if they are not there; returns whether it did. Raises OSError, ConfigError: a key can't be used."""
    try:
        # The name of the log; no other log must ever have it.
        return ensure_keys(
            layout.audit_key, layout.audit_public_key, f"headrace.local/audit/{secrets.token_hex(4)}"
        )
    except NoteError as error:
        raise config.ConfigError(str(error)) from error

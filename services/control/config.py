"""Settings of control."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, NonNegativeFloat

from headrace.hop import config
from services.control.audit.settings import AuditSettings


class ControlConfig(config.ServiceSettings):
    """Where the records are, what signs them, and who may change them."""

    # SQLite file, which one process has for itself, or postgresql://USER@HOST/DATABASE?password_file=FILE, which several share.
    database: str
    # Whether a database that holds nothing is set up at the start. Otherwise nothing is published until somebody does it.
    initialise: bool = False
    # PEM file of the Ed25519 key that signs what the data plane follows; read again when it changes.
    signing_key: Path
    # Folder, or URL of a bucket, that gets what the data plane follows after each change, for starts without control.
    artifacts: str | None = None
    # Names in client certificates whose owners may change records, take leases and read the audit. On the unix socket all may.
    may_change: tuple[str, ...] = ()
    # Name in a client certificate → the service that it is; without it, the name of the service itself must be in it.
    watchers: Mapping[str, str] = Field(default_factory=dict)
    audit: AuditSettings = AuditSettings()
    # After a start changes wait so long, so that processes of the data plane which have more than the database are heard first.
    settle_s: NonNegativeFloat = 1.0

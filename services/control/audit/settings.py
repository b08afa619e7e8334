"""Settings of what joins the audit, and of where its head goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from headrace.hop import config


class AuditSettings(config.Settings):
    """The journals that are followed, and the folder outside."""

    # Name → file. Of several processes of control, that on the machine with the files.
    journals: Mapping[str, Path] = Field(default_factory=dict)
    # How often they are looked at; what comes within is one line of the audit.
    poll_s: PositiveFloat = 5.0
    # Renamed files of journals are deleted after so many days, and the oldest once all of a journal have more bytes than this.
    retention_days: PositiveFloat = 365.0
    retention_bytes: PositiveInt = 1 << 30
    # Folder that gets the signed head each minute: on another machine, where the database's owner can't change it.
    exported: Path | None = None
    export_s: PositiveFloat = 60.0

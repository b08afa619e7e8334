"""Settings of the monitoring service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat

from headrace.hop import config
from headrace.releases.records import RecordSettings

_MIB = 1 << 20


class Retention(config.Settings):
    """What of outcomes and exposures is kept. The oldest go first."""

    days: PositiveFloat = 30.0
    # Size of the file. An outcome or an exposure takes about 150 bytes.
    max_bytes: int = Field(default=512 * _MIB, ge=_MIB)


class MonitoringConfig(config.ServiceSettings):
    """All settings of the monitoring service."""

    # Where the releases are, as the router has it: a folder, or the URL of a Redis. Absent: no rollout is judged.
    releases: str | None = None
    # How the analyser's changes of releases are recorded.
    release_records: RecordSettings = RecordSettings()
    # Folder for the lease of the analyser that acts and for its evidence, where releases are in a folder. Absent: a restart
    # begins with new evidence, and there must be one process of this service only.
    rollouts: Path | None = None

    # SQLite file of outcomes and exposures; several processes of one machine may share it. Absent: they are kept in memory,
    # and a restart forgets them.
    outcomes: Path | None = None
    retention: Retention = Retention()
    # A router that has not reported for so long has ended.
    silent_s: PositiveFloat = 60.0
    # How often old outcomes are removed.
    sweep_s: PositiveFloat = 60.0

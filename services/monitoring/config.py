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


class RolloutSettings(config.Settings):
    """How rollouts are judged. Of several monitoring services one does it; if that one ends, another goes on."""

    # Where the releases are, as the router has it.
    releases: str
    # Folder for evidence and the lock, shared by the monitoring services of one machine; not used if releases are in a Redis,
    # which keeps both then.
    folder: Path
    # How changes are recorded, and who is told of them.
    records: RecordSettings = RecordSettings()
    # How often each rollout is looked at. Ticks come each second; what they say should not wait for long.
    period_s: PositiveFloat = 0.5


class MonitoringConfig(config.ServiceSettings):
    """All settings of the monitoring service."""

    # SQLite file of outcomes and exposures; several processes of one machine may share it. Absent: they are kept in memory,
    # and a restart forgets them.
    outcomes: Path | None = None
    retention: Retention = Retention()
    # A router that has not reported for so long has ended.
    silent_s: PositiveFloat = 60.0
    # How often old outcomes are removed.
    sweep_s: PositiveFloat = 60.0
    # Absent: rollouts are not judged here.
    rollouts: RolloutSettings | None = None

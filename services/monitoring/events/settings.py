"""Settings of the storage of events."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from headrace.hop.config import Settings
from services.monitoring.events.files.location import location_of

_MIB = 1 << 20


class EventRetention(Settings):
    """How long events are kept. The oldest files go first."""

    days: PositiveFloat = 7.0
    # By pipeline, where it differs.
    pipelines: dict[str, PositiveFloat] = Field(default_factory=dict)
    # Of all events together.
    max_bytes: int = Field(default=1024 * _MIB, ge=_MIB)

    def days_of(self, pipeline: str) -> float:
        return self.pipelines.get(pipeline, self.days)


class EventStorage(Settings):
    """Where events are kept, and how."""

    # Folder of their files, or s3://BUCKET/PREFIX (files/location.py), whose keys are AWS's own variables and files. Absent:
    # events are seen by what observes them (drift), and not kept.
    files: str | None = None
    retention: EventRetention = EventRetention()
    # Events wait in the database until a file has this size or they are so old.
    file_bytes: PositiveInt = 32 * _MIB
    file_s: PositiveFloat = 900.0
    # What a question may use of memory and time.
    question_bytes: PositiveInt = 512 * _MIB
    question_s: PositiveFloat = 30.0
    # The routers' file with the secret that personal data is hashed with. Absent: events can't be erased by it.
    salt: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Of the files, if they are on this machine."""
        return None if self.files is None or location_of(self.files).bucket else Path(self.files)

    @field_validator("files")
    @classmethod
    def _is_a_location(cls, files: str | None) -> str | None:
        if files is not None:
            location_of(files)
        return files

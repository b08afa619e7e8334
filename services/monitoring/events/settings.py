"""Settings of the storage of events."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from headrace.hop.config import Settings
from services.monitoring.events.storage.place import place_of

_MIB = 1 << 20


class EventRetention(Settings):
    """How long events are kept. The oldest segments go first."""

    days: PositiveFloat = 7.0
    # By pipeline, where it differs.
    pipelines: dict[str, PositiveFloat] = Field(default_factory=dict)
    # Of all segments together.
    max_bytes: int = Field(default=1024 * _MIB, ge=_MIB)

    def days_of(self, pipeline: str) -> float:
        return self.pipelines.get(pipeline, self.days)


class EventStorage(Settings):
    """Where events are kept, and how."""

    # Folder of the segments and their index; processes of one machine may share it. Absent: events are seen by what observes
    # them (drift), and not kept.
    folder: Path | None = None
    # Object storage that closed segments move to (storage/place.py); several machines may share it. Keys are AWS's own variables
    # and files.
    segments: str | None = None
    retention: EventRetention = EventRetention()
    # A segment is closed at this size or age.
    segment_bytes: PositiveInt = 64 * _MIB
    segment_s: PositiveFloat = 60.0
    # The routers' file with the secret that personal data is hashed with. Absent: events can't be erased by it.
    salt: Path | None = None

    @field_validator("segments")
    @classmethod
    def _is_a_place(cls, segments: str | None) -> str | None:
        if segments is not None:
            place_of(segments)
        return segments

    @model_validator(mode="after")
    def _segments_begin_in_a_folder(self) -> Self:
        if self.segments is not None and self.folder is None:
            raise ValueError("segments: needs `folder`, where segments grow and wait")
        return self

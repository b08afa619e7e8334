"""Settings of the storage of explanations."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat

from headrace.hop.config import Settings

_MIB = 1 << 20


class ExplanationStorage(Settings):
    """Where explanations are kept, and for how long. The oldest go first."""

    # SQLite file; processes of one machine may share it. Absent: they are kept in memory.
    file: Path | None = None
    # As long as events, without which an explanation can't be shown.
    days: PositiveFloat = 7.0
    # Of the file. An explanation of 24 columns takes about 900 bytes.
    max_bytes: int = Field(default=512 * _MIB, ge=_MIB)

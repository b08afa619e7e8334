"""Settings of explanations."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from headrace.hop.config import Settings
from headrace.repository import Trust


class ExplanationSettings(Settings):
    """How predictions are explained; documents say which share must be."""

    # Model repository with the baselines that base rows are made of: a folder or URL. Absent: base rows are made without.
    models: str | None = None
    # Public keys of those whose models are believed. Absent: signatures are not checked.
    model_keys: tuple[Path, ...] = ()
    # Rows that may wait to be explained on request, or run; a tenant may have as many as it leaves free. More are refused.
    max_asked_rows: PositiveInt = 64
    # A callee works no longer than about this without a pause for live calls.
    piece_ms: PositiveFloat = 1.0
    # How long a piece waits for a moment without a live batch.
    patience_s: PositiveFloat = 0.25

    def trust(self) -> Trust | None:
        return Trust(self.model_keys) if self.model_keys else None

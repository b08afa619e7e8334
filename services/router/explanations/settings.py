"""Settings of explanations."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from headrace.hop.config import Settings
from headrace.repository import Trust


class ExplanationSettings(Settings):
    """How predictions are explained; documents say which must be."""

    # Model repository with the baselines that base rows are made of: a folder or URL. Absent: base rows are made without.
    models: str | None = None
    # Public keys of those whose models are believed. Absent: signatures are not checked.
    model_keys: tuple[Path, ...] = ()
    # Predictions that may wait to be explained because their documents demand it, and the bytes that they may keep; more are
    # dropped and counted.
    max_waiting_rows: PositiveInt = 2048
    max_waiting_bytes: PositiveInt = 16 * 1024 * 1024
    # Rows that may wait to be explained on request, or run; a tenant may have as many as it leaves free. More are refused.
    max_asked_rows: PositiveInt = 64
    # A callee works no longer than about this without a pause for live calls.
    piece_ms: PositiveFloat = 1.0
    # How long a piece waits for a moment without a live batch.
    patience_s: PositiveFloat = 0.25

    def trust(self) -> Trust | None:
        return Trust(self.model_keys) if self.model_keys else None

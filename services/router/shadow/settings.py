"""Settings of shadows."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from headrace.hop.config import Settings


class ShadowSettings(Settings):
    """Settings of shadows; which pipeline has one is said by its release."""

    # Copied rows that may wait, and the bytes that they may keep; more are dropped and counted.
    max_waiting_rows: PositiveInt = 2048
    max_waiting_bytes: PositiveInt = 32 * 1024 * 1024
    # Rows of one run. Fewer where live batches take less time.
    max_rows: PositiveInt = 64
    # How long a run waits for a moment without a live batch.
    patience_s: PositiveFloat = 0.25

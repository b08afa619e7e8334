"""Settings of the storage of explanations."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from headrace.hop.config import Settings


class ExplanationStorage(Settings):
    """How long explanations are kept. The oldest go first."""

    # As long as events, without which an explanation can't be shown.
    days: PositiveFloat = 7.0
    # An explanation of 24 columns takes about 1,400 bytes.
    max_rows: PositiveInt = 500_000

"""Settings of accuracy."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from headrace.hop import config


class AccuracySettings(config.Settings):
    """How accuracy is told from outcomes."""

    # Share of a window's predictions that must have a label, so that its labels tell of all of them.
    least_coverage: float = Field(default=0.5, gt=0, le=1)
    # Length of a window, by the time of the predictions.
    window_s: PositiveFloat = 3600.0
    # What is older takes no part.
    days: PositiveFloat = 7.0
    # Rows a second, all pipelines together, that are recorded for long, and so many at once. Of more traffic a part is recorded:
    # accuracy and coverage are then those of the part.
    rows_per_s: PositiveFloat = 200.0
    burst_rows: PositiveInt = 2_000

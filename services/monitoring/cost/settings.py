"""Settings of the cost ledger."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat

from headrace.hop.config import Settings


class CostSettings(Settings):
    """Where it reads what processes used, and where it keeps what that cost."""

    # File that names the metrics of all processes, as Prometheus reads it (`file_sd_configs`); the supervisor writes it.
    # Absent: what predictions cost is not told.
    targets: Path | None = None
    # SQLite file; processes of one machine may share it. Absent: in memory, and a restart forgets.
    ledger: Path | None = None
    # Prices, by people; a mistake in it leaves the last good one in force, which is `kept`. Absent: the defaults.
    prices: Path | None = None
    kept: Path | None = None
    # Folder of all files that the installation keeps, for the price of storage. Absent: only events count.
    files: Path | None = None
    # How often processes are asked. What is lost by a crash is no more than this.
    every_s: PositiveFloat = 15.0
    keep_days: float = Field(default=400.0, gt=1)

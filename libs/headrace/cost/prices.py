"""What resources cost, how many are reserved, what predictions may cost: `HOME/settings/prices.yaml`. All keys may be absent."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat

from headrace.hop.config import ConfigError, Settings, load

HOUR_S = 3600.0
# As clouds bill: 730 hours.
MONTH_S = 730 * HOUR_S
GB = 1e9
CPU, MEMORY, GPU, STORAGE, FIXED = "cpu", "memory", "gpu", "storage", "fixed"
RESOURCES = (CPU, MEMORY, GPU, STORAGE, FIXED)
UNITS = {
    CPU: "core-seconds",
    MEMORY: "GB-seconds",
    GPU: "GPU-seconds",
    STORAGE: "GB-seconds",
    FIXED: "seconds",
}


class Rates(Settings):
    """Prices of what is reserved. The defaults are usual list prices of a cloud's machines on demand: put yours in."""

    core_hour: NonNegativeFloat = 0.04
    memory_gb_hour: NonNegativeFloat = 0.005
    gpu_hour: NonNegativeFloat = 2.0
    storage_gb_month: NonNegativeFloat = 0.1
    # What does not grow with use: people on call, licences, hardware over the months of its use.
    fixed_month: NonNegativeFloat = 0.0

    def of(self, resource: str) -> float:
        """Price of one unit (`UNITS`)."""
        return {
            CPU: self.core_hour / HOUR_S,
            MEMORY: self.memory_gb_hour / HOUR_S,
            GPU: self.gpu_hour / HOUR_S,
            STORAGE: self.storage_gb_month / MONTH_S,
            FIXED: self.fixed_month / MONTH_S,
        }[resource]


class Reserved(Settings):
    """What is paid for, used or not. Absent cores and memory: those of this machine."""

    cores: PositiveFloat | None = None
    memory_gb: PositiveFloat | None = None
    gpus: NonNegativeFloat = 0.0
    # 0: only what is used is paid for.
    storage_gb: NonNegativeFloat = 0.0


class Budget(Settings):
    """Above these, an alert tells. Absent: none does."""

    # The price of 1,000 rows of a pipeline: what they used, without what is idle.
    per_1000: PositiveFloat | None = None
    # By pipeline, where it differs.
    pipelines: dict[str, PositiveFloat] = Field(default_factory=dict)


class Prices(Settings):
    """The document."""

    currency: str = Field(default="USD", pattern=r"^[A-Za-z]{3}$")
    prices: Rates = Rates()
    reserved: Reserved = Reserved()
    budget: Budget = Budget()

    def reserves(self, resource: str) -> float:
        """How many units of a resource are reserved each second."""
        reserved = self.reserved
        return {
            CPU: _cores() if reserved.cores is None else reserved.cores,
            MEMORY: _memory_gb() if reserved.memory_gb is None else reserved.memory_gb,
            GPU: reserved.gpus,
            STORAGE: reserved.storage_gb,
            FIXED: 1.0,
        }[resource]


def _cores() -> float:
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB


def read_prices(path: Path | None) -> Prices:
    """What a file says; the defaults if there is none. Raises ConfigError, which names line and key."""
    return load(Prices, path, {}) if path is not None and _identity(path) is not None else Prices()


@dataclass(slots=True)
class PricesFile:
    """The file, read again when it changed; a mistake in it leaves the last good one in force until the process ends.

    `problem`: file, line and key of the mistake; "": there is none.
    """

    path: Path | None
    prices: Prices = field(default_factory=Prices)
    problem: str = ""
    _seen: tuple[int, int, int] | None = None
    _good: bool = False

    def refresh(self) -> Prices:
        """The prices in force. Blocks. Raises ConfigError: the first ones have a mistake."""
        seen = _identity(self.path)
        if not self._good or seen != self._seen:
            self._seen = seen
            try:
                self.prices = read_prices(self.path)
                self._good, self.problem = True, ""
            except ConfigError as error:
                self.problem = str(error)
                if not self._good:
                    raise
        return self.prices


def _identity(path: Path | None) -> tuple[int, int, int] | None:
    """Changes whenever the file does. None: there is no file."""
    try:
        status = path.stat() if path is not None else None
    except FileNotFoundError:
        return None
    except OSError:
        return (0, 0, 0)  # reading it will say why
    return None if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)

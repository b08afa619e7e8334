"""What drift needs of others, and how its parts name things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from headrace.drift import Baseline


class Traffic(StrEnum):
    """For whom a row was computed: its caller, or nobody."""

    LIVE = "live"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Series:
    """Whose rows are counted together. `revision`: content hash of the pipeline document."""

    pipeline: str
    revision: str
    arm: str
    traffic: Traffic = Traffic.LIVE

    @property
    def label(self) -> str:
        """The arm, as metrics and log lines name it."""
        return self.arm if self.traffic is Traffic.LIVE else f"{self.arm}/{self.traffic}"


class Version(NamedTuple):
    """Whose errors are counted together. `runs`: the models' versions and the document's revision, in words."""

    pipeline: str
    arm: str
    runs: str


# The baseline of what a series runs; None: it has none. Blocks. Raises RepositoryError, ReleaseError or OSError.
Baselines: TypeAlias = Callable[[Series], Baseline | None]

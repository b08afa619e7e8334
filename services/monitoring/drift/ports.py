"""What drift needs of others, and how its parts name things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from headrace.drift import Baseline
from headrace.drift.values import Values


class Traffic(StrEnum):
    """For whom a row was computed: its caller, or nobody."""

    LIVE = "live"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Series:
    """Whose rows are judged together. `revision`: content hash of the pipeline document."""

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


@dataclass(frozen=True, slots=True)
class Followed:
    """What a series runs. `baseline` None: its models have none; `since`: the release with which it began to run them."""

    baseline: Baseline | None
    since: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The newest rows of a series: its columns by name; None: one that came before, and does not any more. `stored`: of what
    was stored of the pipeline then; the same while there can't be others."""

    columns: Mapping[str, Values | None]
    count: int
    tenants: Sequence[str] = ()
    stored: object = None


# What each arm of each pipeline runs now. Blocks. Raises RepositoryError, ReleaseError or OSError.
Baselines: TypeAlias = Callable[[], Mapping[Series, Followed]]
# The newest rows of a series, since 1970 in seconds `now`; None: those that were judged, by their `stored`. Raises StorageError.
NewestRows: TypeAlias = Callable[[Series, Followed, float, object], Awaitable[Rows | None]]

"""What the router needs of others. Each call raises Fault when it fails as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from headrace.columns import Batch
from headrace.hop.errors import Fault
from headrace.pipeline import IndexedModel, StepsStage

Rules: TypeAlias = tuple[tuple[str, int, int], ...]
"""How old values may be: view, age up to which they are present, and how much older they may be as stale ones (µs)."""


class FeatureSource(Protocol):
    """The features service."""

    async def get(self, feature_service: str, rules: Rules, batch: Batch) -> Batch:
        """One column per feature, and per view `@age_us/<view>` (int64) and `@source/<view>` (uint8)."""
        ...


class StepRunner(Protocol):
    """The preprocessing or postprocessing service."""

    async def run(self, stage: StepsStage, batch: Batch) -> Batch:
        """The columns that the stage declares as outputs."""
        ...


@dataclass(frozen=True, slots=True)
class Execution:
    """What a model gave, and which it was. `sha256`: of its artifact, hexadecimal. `backend`: what ran it; `standby`: that was
    not its first choice; `cold_start`: the rows waited for it to be woken."""

    batch: Batch
    version: str
    sha256: str
    backend: str = ""
    standby: bool = False
    cold_start: bool = False


class ModelRunner(Protocol):
    """The executor."""

    async def execute(self, model: str, version: str, batch: Batch) -> Execution:
        """One column per output of the model; `version` "" = the newest."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version that serves. `sha256`: of its artifact, hexadecimal; `backend`: what runs it, on which `device`."""

    name: str
    version: str
    sha256: str
    backend: str
    device: str


class Operators(Protocol):
    """The executor's calls for operators, each on every replica: one answer or Fault per replica, at least one.

    Deadlines are monotonic seconds. Raises Fault if there is no replica at all.
    """

    async def index(self, deadline: float) -> Sequence[Sequence[IndexedModel] | Fault]: ...

    async def load(
        self, model: str, version: str, operator: str, deadline: float
    ) -> Sequence[LoadedModel | Fault]: ...

    async def unload(
        self, model: str, version: str, operator: str, deadline: float
    ) -> Sequence[Sequence[str] | Fault]: ...


class Meter(Protocol):
    """Counts what happens."""

    def rows(self, pipeline: str, code: str, count: int) -> None:
        """`count` rows of the pipeline ended with a canonical code (`OK` …)."""
        ...

    def stage(self, pipeline: str, stage: str, seconds: float) -> None:
        """A stage took so long for one batch."""
        ...

    def fallback(self, pipeline: str, fallback: str, count: int) -> None:
        """`count` rows used a fallback."""
        ...

    def refusal(self, pipeline: str, cause: str, count: int) -> None:
        """`count` rows were refused as a view that the pipeline demands had nothing for them, or nothing young enough."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The services that are configured; None for one that is not."""

    features: FeatureSource | None = None
    preprocessing: StepRunner | None = None
    executor: ModelRunner | None = None
    postprocessing: StepRunner | None = None
    # The executor again, for those who say which models it has.
    operators: Operators | None = None

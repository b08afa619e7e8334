"""The interfaces that the ingress needs from other services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.columns import Batch
from headrace.comparison import ComparisonReport
from headrace.pipeline import Decision, IndexedModel


@dataclass(slots=True)
class Routed:
    """What the router answered: outputs and annotations as columns, rows in the order of the request."""

    batch: Batch
    # The name of each fallback that at least one row used, and its bit in the column `@fallbacks`.
    fallbacks: Sequence[tuple[str, int]]
    # What rows of this request took; `decided` is the index of each row, None if there is one decision for all of them.
    decisions: Sequence[Decision]
    decided: Sequence[int] | None = None


class ModelOperations(Protocol):
    """Changes which models are loaded. `operator`: the caller, for the audit. Deadlines are monotonic seconds.

    All methods raise Fault: the fault of the service that refused.
    """

    async def index(self, deadline: float) -> Sequence[IndexedModel]:
        """Every version in the repository, by name, oldest first."""
        ...

    async def load(self, model: str, version: str, operator: str, deadline: float) -> str:
        """Loads a version and returns it: the named one, the one a label points to, or the newest for ""."""
        ...

    async def unload(self, model: str, version: str, operator: str, deadline: float) -> Sequence[str]:
        """Unloads versions and returns them: the named one, the one a label points to, or all loaded ones for ""."""
        ...


@dataclass(frozen=True, slots=True)
class MergedReports:
    """Reports of shadows, summed up over `routers` that answered; `silent` did not."""

    reports: Sequence[ComparisonReport]
    routers: int
    silent: int = 0


class ShadowReports(Protocol):
    """What shadows answered, compared with what callers got."""

    async def reports(self, pipeline: str, deadline: float) -> MergedReports:
        """Of one pipeline; "": of all. `deadline`: monotonic seconds. Raises Fault if no router answers."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """One named value that became known of a prediction. `time`: seconds since 1970; None: now."""

    request_id: str
    row: int
    name: str
    value: bool | float
    time: float | None


class Outcomes(Protocol):
    """Stores outcomes of predictions."""

    async def record(self, tenant: str, outcomes: Sequence[Outcome], deadline: float) -> int:
        """Stores all of them, or none; returns how many are stored. `deadline`: monotonic seconds. Raises Fault."""
        ...


@dataclass(frozen=True, slots=True)
class RowExplained:
    """What each column added to an output of a row. `contributions`: (column, what it added, its standard error)."""

    output: str
    base: float
    value: float
    exact: bool
    revision: str
    contributions: Sequence[tuple[str, float, float]]


class Explanations(Protocol):
    """Explains predictions."""

    async def explain(
        self, pipeline: str, output: str, batch: Batch, deadline: float
    ) -> Sequence[RowExplained]:
        """What each column added to an output of each row; `output` "": the one that the document names. `deadline`: monotonic
        seconds. Raises Fault."""
        ...


class Router(Protocol):
    """Runs pipelines."""

    async def infer(self, pipeline: str, version: int, batch: Batch) -> Routed:
        """Runs one pipeline over a batch. Rows that fail have a row error.

        Raises Fault if the whole call failed.
        """
        ...


class Log(Protocol):
    """The part of structlog's logger that is used here."""

    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...

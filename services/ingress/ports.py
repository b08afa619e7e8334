"""What the ingress needs of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.columns import Batch
from headrace.pipeline import Decision, IndexedModel


@dataclass(frozen=True, slots=True)
class Routed:
    """What the router answered: outputs and annotations as columns, rows in the order of the request."""

    batch: Batch
    # Name of each fallback that any of the rows used, and its bit in the column `@fallbacks`.
    fallbacks: Sequence[tuple[str, int]]
    decisions: Sequence[Decision]


class ModelOperations(Protocol):
    """Changes which models are loaded. `operator`: who asks, for the audit; deadlines are monotonic seconds.

    All raise Fault, those of whoever refused.
    """

    async def index(self, deadline: float) -> Sequence[IndexedModel]:
        """Every version in the repository, by name, oldest first."""
        ...

    async def load(self, model: str, version: str, operator: str, deadline: float) -> str:
        """The version that serves now: the one named, that a label means, or the newest for ""."""
        ...

    async def unload(self, model: str, version: str, operator: str, deadline: float) -> Sequence[str]:
        """The versions that are gone: the one named, that a label means, or for "" all that were loaded."""
        ...


class Router(Protocol):
    """Runs pipelines."""

    async def infer(self, pipeline: str, version: int, batch: Batch) -> Routed:
        """Runs one pipeline over a batch; rows that fail carry a row error.

        Raises Fault when the call failed as a whole.
        """
        ...


class Log(Protocol):
    """structlog's logger, as far as it is used here."""

    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...

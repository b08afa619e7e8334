"""The interfaces that the ingress needs from other services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.columns import Batch
from headrace.pipeline import Decision


@dataclass(slots=True)
class Routed:
    """What the router answered: outputs and annotations as columns, rows in the order of the request."""

    batch: Batch
    # The name of each fallback that at least one row used, and its bit in the column `@fallbacks`.
    fallbacks: Sequence[tuple[str, int]]
    # What rows of this request took; `decided` is the index of each row, None if there is one decision for all of them.
    decisions: Sequence[Decision]
    decided: Sequence[int] | None = None


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

"""What the analyser needs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headrace.releases import Release
from headrace.releases.ladder import Answer, Report
from services.monitoring.rollouts.counts import Tick
from services.monitoring.rollouts.evidence import Objectives
from services.monitoring.rollouts.judgement import Judgement


class Counts(Protocol):
    """Has the newest cumulative ticks of each source."""

    async def ticks(self, release: Release) -> Sequence[Tick]:
        """Ticks of the pipeline's last releases, those of ended sources included."""
        ...

    async def objectives(self, release: Release) -> Objectives:
        """What the live arm promises, and what is left of its error budgets."""
        ...


class Lease(Protocol):
    """Held by one analyser at a time. Methods block."""

    @property
    def token(self) -> str:
        """Proves that it is held; empty: it is not."""
        ...

    def hold(self) -> bool:
        """Takes the lease or prolongs it. Raises OSError if that can't be known; then it counts as not held."""
        ...

    def release(self) -> None:
        """Gives it back, if it is held."""
        ...


class Ladder(Protocol):
    """Moves rollouts by what it is told of them."""

    def report(self, report: Report) -> Answer:
        """What it made of a judgement. Blocks. Raises RecordsError; OSError: it can't be reached."""
        ...


class EvidenceStore(Protocol):
    """Keeps evidence for the next analyser. Methods block and raise OSError."""

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """What was saved last; None: nothing, or nothing that can be read."""
        ...

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """Replaces what was saved."""
        ...


class Observer(Protocol):
    """Is told what the analyser does; see metrics.py."""

    def looked(self, pipeline: str, judgement: Judgement, answer: Answer) -> None:
        """After each answer of control."""
        ...

    def failed(self, kind: str) -> None:
        """Something did not work: a short word of ours (`store`, `lease`, `evidence`, `bug`, …)."""
        ...

    def leading(self, leads: bool) -> None:
        """Whether this analyser holds the lease."""
        ...

    def gone(self, pipeline: str) -> None:
        """There is no rollout of the pipeline any more."""
        ...


class Log(Protocol):
    """The part of structlog's logger that is used here."""

    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...

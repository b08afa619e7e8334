"""What the analyser needs of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

from headrace.releases import Release
from services.monitoring.rollouts.counts import Tick
from services.monitoring.rollouts.evidence import Objectives
from services.monitoring.rollouts.policy import Decision
from services.monitoring.rollouts.verdicts import GuardVerdict


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

    def hold(self) -> bool:
        """Takes the lease or prolongs it. Raises OSError if that can't be known; then it counts as not held."""
        ...

    def release(self) -> None:
        """Gives it back, if it is held."""
        ...


class EvidenceStore(Protocol):
    """Keeps evidence for the next analyser. Methods block and raise OSError."""

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """What was saved last; None: nothing, or nothing that can be read."""
        ...

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """Replaces what was saved."""
        ...


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    """A change that the analyser made. `number`: of the new release; `at`: seconds since 1970; `guards`: the figures."""

    pipeline: str
    number: int
    at: float
    action: str
    verdict: str
    weight: float
    reason: str
    guards: tuple[GuardVerdict, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for audit and webhooks."""
        values = asdict(self)
        return {**values, "guards": [_plain(asdict(guard)) for guard in self.guards]}


# Is told of each change: the audit, a webhook. Called on a thread; may block and may raise anything.
Listener: TypeAlias = Callable[[RolloutEvent], object]


class Observer(Protocol):
    """Is told what the analyser does; see metrics.py."""

    def looked(self, pipeline: str, decision: Decision, sample_ratio_e: float) -> None:
        """After each decision."""
        ...

    def changed(self, pipeline: str, decision: Decision) -> None:
        """After a decision was carried out."""
        ...

    def failed(self, kind: str) -> None:
        """Something did not work: `store`, `lease`, `evidence`, `audit`, `webhook`, `dropped`, `bug`."""
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


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        **values,
        "verdict": str(values["verdict"]),
        "live": list(values["live"]),
        "canary": list(values["canary"]),
    }

"""When a retraining is triggered: a state machine with a rate limit. It has no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

_DAY_S = 86_400.0
# A cause that is longer is cut: an event must not grow with the number of columns.
_MOST_CAUSES = 32


@dataclass(frozen=True, slots=True)
class Cause:
    """Why. `since`: when its alarm was raised, seconds since 1970."""

    check: str
    column: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """A retraining that is due."""

    pipeline: str
    revision: str
    arm: str
    at: float
    causes: tuple[Cause, ...]

    def to_json(self) -> dict[str, Any]:
        """As command and webhook get it."""
        return {"event": "retrain", **asdict(self)}


@dataclass(slots=True)
class RetrainPolicy:
    """At most `per_day` triggers of a pipeline in 24 hours, with `pause_s` between two; a cause must last for `after_s`.

    The same alarm may trigger again after the pause: it is still there, so the last retraining did not help.
    """

    after_s: float
    pause_s: float
    per_day: int
    # Pipeline → when it was triggered, the oldest first.
    triggered: dict[str, list[float]] = field(default_factory=dict)

    def judge(
        self, pipeline: str, causes: Sequence[Cause], now: float
    ) -> tuple[Literal["none", "held", "due"], tuple[Cause, ...]]:
        """Whether a retraining is due, is held back by the rate limit, or has no cause; and the causes that lasted."""
        lasting = tuple(c for c in causes if now - c.since >= self.after_s)[:_MOST_CAUSES]
        if not lasting:
            return "none", ()
        # A clock that was set back must not hold triggers back for longer than the pause.
        times = [t for t in self.triggered.get(pipeline, []) if 0 <= now - t < _DAY_S]
        if times and (now - times[-1] < self.pause_s or len(times) >= self.per_day):
            return "held", lasting
        self.triggered[pipeline] = [*times, now]
        return "due", lasting

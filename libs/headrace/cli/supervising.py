"""When a service is restarted: the policy, without processes or a clock of its own.

STARTING → READY ⇄ UNREADY          STOPPED: told to stop, or not begun
   ↓         ↓        ↓
   └───── WAITING (backoff) → STARTING
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """What a service's process does now."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    # It was ready and no longer says so, or does not answer.
    UNREADY = "unready"
    # It ended; the next one starts after the backoff.
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Rules:
    """Times in seconds."""

    first_delay: float = 0.1
    max_delay: float = 10.0
    factor: float = 2.0
    # Ready for this long, a service counts as healthy again: its next restart is quick.
    stable: float = 30.0
    # A process that is not ready after this is killed and counts as failed.
    start: float = 120.0
    # So many probes in a row must fail before a ready service counts as unready: one may be late by chance.
    misses: int = 2


class Watch:
    """One service under the policy. `now` is any clock that only moves forward, in seconds."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.state = State.STOPPED
        self.restarts = 0
        self.in_vain = 0  # processes in a row that ended before they were ready
        self._failures = 0  # since it was last stable
        self._since = 0.0  # when the state began
        self._ready_since: float | None = None
        self._missed = 0

    def started(self, now: float) -> None:
        """A process was started."""
        self._enter(State.STARTING, now)
        self._ready_since = None

    def probed(self, healthy: bool, now: float) -> None:
        """The process was asked whether it is ready; ignored unless one runs."""
        if self.state not in (State.STARTING, State.READY, State.UNREADY):
            return
        if healthy:
            self._missed = self.in_vain = 0
            if self.state is not State.READY:
                self._enter(State.READY, now)
                self._ready_since = now
            return
        self._missed += 1
        if self.state is State.READY and self._missed >= self._rules.misses:
            self._enter(State.UNREADY, now)

    def replaced(self, now: float) -> None:
        """A new process, ready already, took the place of the old one."""
        self._missed = self.in_vain = 0
        self._enter(State.READY, now)
        self._ready_since = now

    def overdue(self, now: float) -> bool:
        """Whether the process has taken too long to become ready and must be killed."""
        return self.state is State.STARTING and now - self._since >= self._rules.start

    def exited(self, now: float) -> float:
        """The process ended unasked. Returns how many seconds to wait before the next one starts."""
        if self._ready_since is not None and now - self._ready_since >= self._rules.stable:
            self._failures = 0
        self.in_vain += self._ready_since is None
        self._ready_since = None
        self.restarts += 1
        # The exponent is bounded, so that a service that fails for weeks does not overflow a float.
        delay = self._rules.first_delay * self._rules.factor ** min(self._failures, 64)
        self._failures += 1
        self._enter(State.WAITING, now)
        return min(delay, self._rules.max_delay)

    def stopped(self, now: float) -> None:
        """It was told to stop."""
        self._enter(State.STOPPED, now)

    def _enter(self, state: State, now: float) -> None:
        if state is not State.UNREADY and state is not State.READY:
            self._missed = 0
        self.state, self._since = state, now

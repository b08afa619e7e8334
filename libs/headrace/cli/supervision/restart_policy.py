"""When a service is restarted: the policy, without processes or a clock of its own.

STARTING → READY ⇄ UNREADY          STOPPED: told to stop, or not begun
   ↓         ↓        ↓
   └───── WAITING (backoff) → STARTING

A process that hangs does not end by itself: after several probes in a row without an answer it must be killed.
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
    # It ended, or could not be started; the next one starts after the backoff.
    WAITING = "waiting"


class ProbeResult(enum.Enum):
    """What one probe of a process saw."""

    READY = enum.auto()
    # It answered that it takes no work now.
    REFUSING = enum.auto()
    # No answer in time, but its event loop takes its turns.
    BUSY = enum.auto()
    # No answer in time, and no sign that its event loop takes turns.
    SILENT = enum.auto()


@dataclass(frozen=True, slots=True)
class RestartRules:
    """Times in seconds."""

    first_delay: float = 0.1
    max_delay: float = 10.0
    factor: float = 2.0
    # Ready for this long, a service counts as healthy again: its next restart is quick.
    stable: float = 30.0
    # A process that is not ready after this is killed and counts as failed.
    start: float = 120.0
    # How often a ready process is probed, and how long it has for its answer. Patient: a loaded machine is no fault.
    every: float = 5.0
    timeout: float = 5.0
    # So many probes in a row must fail before a ready service counts as unready.
    misses: int = 1
    # A process that was silent at so many probes in a row is killed: after 23 to 28 seconds with the times above.
    silent: int = 3
    # The same for one whose event loop takes turns: it may be loaded, but who gets no answer for a minute has no service.
    unanswered: int = 12
    # When the supervisor itself was late by more than this, it was stopped or starved, and the probe proves nothing.
    late: float = 1.0


class RestartPolicy:
    """One service under the policy. `now` is any clock that only moves forward, in seconds."""

    def __init__(self, rules: RestartRules) -> None:
        self._rules = rules
        self.state = State.STOPPED
        self.restarts = 0
        self.in_vain = 0  # processes in a row that ended before they were ready
        self._failures = 0  # since it was last stable
        self._since = 0.0  # when the state began
        self._ready_since: float | None = None
        self._missed = 0
        self._silent = 0  # probes in a row without any sign of life
        self._unanswered = 0  # probes in a row without an answer

    def started(self, now: float) -> None:
        """A process was started."""
        self._enter(State.STARTING, now)
        self._ready_since = None

    def probed(self, seen: ProbeResult, now: float, late_by: float = 0.0) -> None:
        """What a probe saw of the process; ignored unless one runs. `late_by`: how much later than planned the
        supervisor came to send the probe, or to look at its answer."""
        if self.state not in (State.STARTING, State.READY, State.UNREADY):
            return
        if seen is ProbeResult.READY:
            self._answered()
            self._missed = self.in_vain = 0
            if self.state is not State.READY:
                self._enter(State.READY, now)
                self._ready_since = now
            return
        if seen is ProbeResult.REFUSING:
            self._answered()
        elif late_by > self._rules.late:
            if self.state is State.STARTING:
                self._since += late_by  # the process was stopped or starved just as well
            return
        else:
            self._unanswered += 1
            self._silent = self._silent + 1 if seen is ProbeResult.SILENT else 0
        self._missed += 1
        if self.state is State.READY and self._missed >= self._rules.misses:
            self._enter(State.UNREADY, now)

    def hung(self) -> str:
        """Why a process that was ready must be killed; empty if it need not be."""
        if self.state not in (State.READY, State.UNREADY):
            return ""
        if self._silent >= self._rules.silent:
            return f"it hung: no answer to {self._silent} probes in a row, and its event loop stood still"
        if self._unanswered >= self._rules.unanswered:
            return f"it hung: no answer to {self._unanswered} probes in a row"
        return ""

    def _answered(self) -> None:
        self._silent = self._unanswered = 0

    def replaced(self, now: float) -> None:
        """A new process, ready already, took the place of the old one."""
        self._answered()
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
        return self._backoff(now)

    def unstartable(self, now: float) -> float:
        """No process could be started. Returns how many seconds to wait before the next try."""
        self.in_vain += 1
        self._ready_since = None
        return self._backoff(now)

    def _backoff(self, now: float) -> float:
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
            self._answered()
        self.state, self._since = state, now

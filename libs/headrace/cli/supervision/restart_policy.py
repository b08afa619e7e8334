"""When a service is restarted, and why it is not ready: a state machine that knows no processes and no clock.

STARTING → READY ⇄ UNREADY          STOPPED: asked to stop, or not started yet
   ↓         ↓        ↓
   └───── WAITING (backoff) → STARTING

A process that hangs does not end by itself: it must be killed when another of its threads says that its event loop stands
still, or after several probes in a row without an answer.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """State of a service's process."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    # It was ready, and now says that it is not, or does not answer.
    UNREADY = "unready"
    # It ended, or could not be started; the next one starts after the backoff.
    WAITING = "waiting"


class ProbeResult(enum.Enum):
    """Result of one probe of a process."""

    READY = enum.auto()
    # It answered that it takes no calls now.
    REFUSING = enum.auto()
    # No answer in time, but its event loop runs.
    BUSY = enum.auto()
    # No answer in time, and no sign that its event loop runs.
    SILENT = enum.auto()


@dataclass(frozen=True, slots=True)
class RestartRules:
    """Times in seconds."""

    first_delay: float = 0.1
    max_delay: float = 10.0
    factor: float = 2.0
    # After this long in READY a service counts as healthy again: its next restart has the first delay.
    stable: float = 30.0
    # A process that is not ready after this is killed and counts as failed.
    start: float = 120.0
    # How often a ready process is probed, and how long it has to answer. Long, because a loaded machine is not a fault.
    every: float = 5.0
    timeout: float = 5.0
    # So many probes in a row must fail before a ready service counts as unready.
    misses: int = 1
    # A process is killed after so many SILENT probes in a row: after 23 to 28 seconds with the times above, if it says nothing.
    silent: int = 3
    # A process that does say, by its heartbeat, how long its event loop has stood still needs no more probes. Another of its
    # threads says it twice, so the machine had time for the process, and the loop took no turn.
    still: float = 7.5
    # The same for BUSY and SILENT ones: the process may only be loaded, but after a minute without an answer it is useless.
    unanswered: int = 12
    # A process that is stopped (SIGSTOP) needs no probe: it can't answer. A person may let it go on after some seconds.
    stopped: float = 6.0
    # If the supervisor itself was late by more than this, it was stopped or got no CPU, and the probe proves nothing.
    late: float = 1.0


# After so many processes that ended before they were ready, the next one will hardly become ready.
_HOPELESS_AFTER = 4
_SEEN = {
    ProbeResult.REFUSING: "it says that it takes no calls now",
    ProbeResult.BUSY: "it does not answer, though its event loop takes turns",
    ProbeResult.SILENT: "it does not answer, and its event loop stands still",
}
# The two heartbeats that show a blocked loop are at least so far apart (seconds). After a pause of the whole machine the first
# one may be old, but a loop that is well takes a turn before the second.
_APART_S = 1.0


class RestartPolicy:
    """The policy for one process of a service. `now`: a monotonic clock, in seconds."""

    def __init__(self, rules: RestartRules) -> None:
        self._rules = rules
        self.state = State.STOPPED
        self.restarts = 0
        self.in_vain = 0  # processes in a row that ended before they were ready
        self.failed = 0  # processes that ended by themselves, and failed tries to start one
        self.unstartable = False  # the last try to start one failed
        self._why = ""
        self._refused = False  # the last process could not use its settings
        self._failures = 0  # since it was last stable
        self._since = 0.0  # when the state began
        self._ready_since: float | None = None
        self._missed = 0
        self._silent = 0  # SILENT probes in a row
        self._unanswered = 0  # probes in a row without an answer
        self._stopped = 0.0  # seconds that it has been stopped (SIGSTOP)
        self._heard: float | None = None  # when it told its heartbeat last, since its last answer
        self._blocked_from = 0.0  # the first of the heartbeats without a turn in between
        self._still = 0.0  # seconds that its loop has stood still, by two heartbeats

    @property
    def reason(self) -> str:
        """Why its process is not ready, or why the last one, or the last try to start one, failed; empty once one is ready."""
        return "" if self.state is State.READY else self._why

    @property
    def trouble(self) -> str:
        """Why it will not become ready by itself; empty while it still may."""
        if self.state is State.READY:
            return ""
        if self._refused:
            return "it can't use its settings" + (f": {self._why}" if self._why else "")
        if self.in_vain >= _HOPELESS_AFTER:
            return f"it ended {self.in_vain} times before it was ready: {self._why}"
        return ""

    def started(self, now: float) -> None:
        """A process was started."""
        self._enter(State.STARTING, now)
        self._ready_since = None

    def probed(self, seen: ProbeResult, now: float, late_by: float = 0.0) -> None:
        """Result of a probe; ignored unless a process runs. `late_by`: seconds by which the supervisor was late to send
        the probe, or to read its answer."""
        if self.state not in (State.STARTING, State.READY, State.UNREADY):
            return
        if seen is ProbeResult.READY:
            if self.state is not State.READY:
                self.replaced(now)
            self._answered()
            self._missed = 0
            return
        if seen is ProbeResult.REFUSING:
            self._answered()
        elif late_by > self._rules.late:
            if self.state is State.STARTING:
                self._since += late_by  # the process was probably stopped or got no CPU, too
            return
        else:
            self._unanswered += 1
            self._silent = self._silent + 1 if seen is ProbeResult.SILENT else 0
        self._missed += 1
        if self.state is State.READY and self._missed >= self._rules.misses:
            self._enter(State.UNREADY, now)
        if self.state is State.UNREADY:
            self._why = _SEEN[seen]

    def stopped_for(self, seconds: float | None, now: float) -> None:
        """The process was stopped (SIGSTOP) for so much longer; None: it is not."""
        self._stopped = 0.0 if seconds is None else self._stopped + seconds
        if self._stopped and self.state is State.READY:
            self._enter(State.UNREADY, now)

    def heartbeat(self, age: float | None, now: float, late_by: float = 0.0) -> None:
        """The process's own word, by another of its threads: its event loop took its last turn `age` seconds ago; None: it
        did not say. `late_by` as in `probed`."""
        late = late_by > self._rules.late
        # A heartbeat younger than the time since the last one: there was a turn in between.
        if age is None or self._heard is None or age < now - self._heard or late:
            self._blocked_from, self._still = now, 0.0
        elif now - self._blocked_from >= _APART_S:
            self._still = age
        self._heard = now
        if self._still >= self._rules.still and self.state is State.READY:
            self._enter(State.UNREADY, now)

    def must_end(self, now: float) -> str:
        """Why the process must be killed: it took too long to become ready, or hangs; empty if it need not."""
        if self.state is State.STARTING and now - self._since >= self._rules.start:
            return f"it was not ready after {self._rules.start:g} s"
        if self._stopped >= self._rules.stopped:
            return f"it hung: it was stopped (SIGSTOP), and did not go on within {self._rules.stopped:g} s"
        if self.state not in (State.READY, State.UNREADY):
            return ""
        if self._still >= self._rules.still:
            return f"it hung: its event loop has stood still for {self._still:.0f} s"
        if self._silent >= self._rules.silent:
            return f"it hung: no answer to {self._silent} probes in a row, and its event loop stood still"
        if self._unanswered >= self._rules.unanswered:
            return f"it hung: no answer to {self._unanswered} probes in a row"
        return ""

    def _answered(self) -> None:
        self._silent = self._unanswered = 0
        self._heard, self._still = None, 0.0

    def replaced(self, now: float) -> None:
        """The process, or a new one that has replaced it, is ready."""
        self._answered()
        self._missed = self.in_vain = 0
        self._why, self._refused, self.unstartable = "", False, False
        self._enter(State.READY, now)
        self._ready_since = now

    def ended(self, now: float, why: str = "", *, refused: bool = False, ran: bool = True) -> float:
        """The process ended without being asked to; `ran` False: none could be started. `refused`: it can't use its settings.
        Returns the seconds to wait before the next one starts."""
        if self._ready_since is not None and now - self._ready_since >= self._rules.stable:
            self._failures = 0
        self.in_vain += self._ready_since is None
        self._ready_since = None
        self.restarts += ran
        self.failed += 1
        self._why, self._refused, self.unstartable = why, refused, not ran
        # The exponent is bounded, so that a service that fails for weeks does not overflow a float.
        delay = self._rules.first_delay * self._rules.factor ** min(self._failures, 64)
        self._failures += 1
        self._enter(State.WAITING, now)
        return min(delay, self._rules.max_delay)

    def stopped(self, now: float) -> None:
        """It was asked to stop."""
        self._enter(State.STOPPED, now)

    def _enter(self, state: State, now: float) -> None:
        if state is not State.UNREADY and state is not State.READY:
            self._missed, self._stopped = 0, 0.0
            self._answered()
        self.state, self._since = state, now

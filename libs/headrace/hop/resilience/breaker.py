"""Circuit breaker of one method at one replica: a pure state machine (the clock is passed in, monotonic seconds).

closed → open when, in a rolling window, too many calls failed or were slow, or when nothing has been answered
for longer than a slow call takes. open → half_open after a time that doubles at each failed probe. half_open lets a few
probes through: all succeed → closed, one fails → open again.

What a caller chose does not count: a call that timed out counts only if it had several times what answers to as many rows
usually take, and one of many rows is slow only beside others of as many. Whether the process is silent, its health says.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING

from headrace.hop.client.outgoing import Outgoing
from headrace.hop.errors import Code, Fault, Reason, counts_against_callee

if TYPE_CHECKING:
    from headrace.hop.client.settings import BreakerRules


class State(enum.Enum):
    """State of a breaker; the value is what the gauge shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def label(self) -> str:
        return self.name.lower()


# A method that hangs fails slowly: when calls are few and large, it takes long until failures outnumber the successes in
# the window. So this many failures in a row, with no answer for `slow_s`, also open the breaker.
_SILENCE_FAILURES = 3
# Timeouts fire slightly early (the deadline margin): two timeouts of one second must count as a `slow_s` of two.
_EARLY = 0.9
_BUCKETS = 10
# After a failure, another replica is preferred for this time, doubled at each failure up to a second. Without this a dead
# replica, which fails at once and so is never busy, would attract calls and use up retries.
_DOUBT_S = 0.05
_MAX_DOUBT_S = 1.0
# Weight of a new duration in the running mean of each kind of call. Slow ones raise it by this part only: hundreds are usual.
_USUAL_WEIGHT = 0.1
_SLOW_RISE = 0.01
# A call lasts unusually long from so many times the mean of its kind on, and from this share of `slow_s` on.
_UNUSUAL = 4.0
_LEAST_SHARE = 0.25
_MAX_KINDS = 256
# A probe that has no answer yet holds up the next one for no longer than this.
_PROBE_S = 0.1
# A process that answered so lately is not asked for its health, whatever times out.
_QUIET_S = 0.1


class Window:
    """Counts of calls, failures and slow calls over the last `seconds`, in time buckets."""

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _BUCKETS
        self.clear()

    def clear(self) -> None:
        # By number: [calls, failures, slow calls]. The newest one's calls, those since `_before`, are counted when it ends.
        self._buckets: dict[int, list[float]] = {}
        self._newest: list[float] = []
        self._before, self.until = 0, -math.inf
        self.calls, self.failures, self.slow = 0, 0.0, 0.0

    def add(self, now: float, failed: float, slow: bool) -> None:
        if now >= self.until:
            self._begin(int(now / self._width))
        self.calls += 1
        if failed or slow:
            self._newest[1] += failed
            self._newest[2] += slow
            self.failures += failed
            self.slow += slow

    def _begin(self, stamp: int) -> None:
        """A new bucket. Computes the totals again, so that float errors cannot add up."""
        if self._newest:
            self._newest[0] += self.calls - self._before
        live = {s: counts for s, counts in self._buckets.items() if s > stamp - _BUCKETS}
        self._newest = live.setdefault(stamp, [0.0, 0.0, 0.0])
        calls, self.failures, self.slow = [sum(column) for column in zip(*live.values(), strict=True)]
        self._before = self.calls = int(calls)
        self._buckets, self.until = live, (stamp + 1) * self._width


class Breaker:
    """Says whether a call may go to the replica, and learns from how calls end.

    Every `admit` that returned a permit is followed by exactly one `record` or `release` with it.
    """

    def __init__(self, rules: BreakerRules, now: float) -> None:
        self._rules = rules
        self._window = Window(rules.window_s)
        self._state = State.CLOSED
        self.closed = True  # all calls may go
        self._epoch = 1
        self._open_until = now
        self._failed_probes = 0
        self._good_probes = 0
        self._probes_out = 0
        self._next_probe = now
        self._answered = now
        self._lost_at = math.inf  # when the process could not be reached, if that was the last failure
        self._streak = 0  # failures in a row
        self._doubt_until = now
        # Mean duration of answered calls by kind, seconds.
        self._usual: dict[Hashable, float] = {}

    def state(self, now: float) -> State:
        """The state; an open breaker whose time is over shows half_open."""
        if self._state is State.OPEN and now >= self._open_until:
            self._half_open()
        return self._state

    @property
    def tripped(self) -> bool:
        """Whether it is open, or its open time is over but no call has asked since."""
        return self._state is State.OPEN

    def ready(self, now: float) -> bool:
        """Whether `admit` would let a call through now."""
        if self._state is State.CLOSED:
            return True
        if self.state(now) is not State.HALF_OPEN:
            return False
        return self._probes_out + self._good_probes < self._rules.probes or now >= self._next_probe

    def doubted(self, now: float) -> bool:
        """Whether the last call failed a moment ago, so that another replica is the better choice."""
        return self._streak > 0 and now < self._doubt_until

    def retry_in(self, now: float) -> float:
        """Seconds until the next probe may go; 0 unless open."""
        return max(0.0, self._open_until - now) if self.state(now) is State.OPEN else 0.0

    def admit(self, now: float) -> int:
        """A permit (positive) for one call, or 0: refused."""
        if self._state is not State.CLOSED:
            if not self.ready(now):
                return 0
            self._probes_out += 1
            self._next_probe = now + _PROBE_S
        if self._streak:
            self._doubt(
                now
            )  # this one call tests the replica; the next calls prefer others until it has ended
        return self._epoch

    def release(self, permit: int) -> None:
        """The call ended without information about the callee: it was cancelled or never sent."""
        if permit == self._epoch and self._state is State.HALF_OPEN:
            self._probes_out -= 1

    def record(
        self,
        permit: int,
        now: float,
        seconds: float,
        failed: float,
        kind: Hashable = 1,
        rows: int = 1,
        lost: bool = False,
    ) -> None:
        """The call was answered after `seconds`, or broke; `failed` is the share of it that the callee failed (0 to 1).

        `kind` names calls that take about as long, `rows` how many rows this one had; `lost`: the process was not reached.
        """
        slow = seconds >= self._rules.slow_s and seconds >= self._unusual(kind, rows)
        if failed < 1:
            self._answered, self._streak = now, 0
            usual = self._usual.get(kind)
            if usual is not None:
                self._usual[kind] = usual + (
                    _SLOW_RISE * usual if slow else _USUAL_WEIGHT * (seconds - usual)
                )
            elif not slow:
                if len(self._usual) >= _MAX_KINDS:
                    self._usual.clear()
                self._usual[kind] = seconds
        window = self._window
        if permit != self._epoch:
            pass  # it began in another state, so its result is out of date
        elif failed or slow or not self.closed or window.failures or window.slow or now >= window.until:
            self._count(now, failed, slow, failed < 1, lost)
        else:
            window.calls += 1  # nothing to judge, as after nearly every call

    def timed_out(
        self, permit: int, now: float, seconds: float, kind: Hashable = 1, rows: int = 1, lost: bool = False
    ) -> bool:
        """The call got no answer within the `seconds` that its caller gave it. If that was ample (returned), it was slow.

        `lost`: the process answered no other call either.
        """
        ample = seconds >= _EARLY * max(self._unusual(kind, rows), _LEAST_SHARE * self._rules.slow_s)
        if permit == self._epoch and ample and self._state is State.CLOSED:
            self._count(now, 0.0, slow=True, answered=False, lost=lost)
        else:
            self.release(permit)  # another probe may be answered: what this one asked may take long by nature
        return ample

    def reached(self, at: float) -> None:
        """The process has answered at this time: that it could not be reached before says nothing any more."""
        if self._state is not State.CLOSED and at > self._lost_at:
            self._close()

    def silent(self, now: float) -> None:
        """A call waits in vain, as all of the process do: others had better go elsewhere until it is known what it has."""
        if self.state(now) is State.HALF_OPEN:
            self._failed_probes += 1
            self._open(now)
        elif self._state is State.CLOSED:
            self._streak += 1
            self._doubt(now)

    def _unusual(self, kind: Hashable, rows: int) -> float:
        """From how many seconds on a call lasts unusually long. Of a kind that is not known, only a single row can."""
        usual = self._usual.get(kind)
        if usual is not None:
            return _UNUSUAL * usual
        return self._rules.slow_s if rows == 1 else math.inf

    def _count(self, now: float, failed: float, slow: bool, answered: bool, lost: bool) -> None:
        if failed or slow:
            self._lost_at = now if lost else math.inf
        if self._state is State.HALF_OPEN:
            self._probed(now, failed >= self._rules.failure_ratio or slow)
            return
        if not answered:
            self._streak += 1
            self._doubt(now)
        self._window.add(now, failed, slow)
        if self._broken(now):
            self._open(now)

    def _doubt(self, now: float) -> None:
        self._doubt_until = now + min(_MAX_DOUBT_S, _DOUBT_S * 2.0 ** min(self._streak, 16))

    def _broken(self, now: float) -> bool:
        rules, window = self._rules, self._window
        if self._streak >= _SILENCE_FAILURES and now - self._answered >= _EARLY * rules.slow_s:
            return window.failures + window.slow >= _SILENCE_FAILURES
        if window.calls < rules.min_calls:
            return False
        return (
            window.failures >= rules.failure_ratio * window.calls
            or window.slow >= rules.slow_ratio * window.calls
        )

    def _probed(self, now: float, bad: bool) -> None:
        self._probes_out -= 1
        if bad:
            self._failed_probes += 1
            self._open(now)
            return
        self._good_probes += 1
        if self._good_probes >= self._rules.probes:
            self._close()

    def _close(self) -> None:
        self._enter(State.CLOSED)
        self._failed_probes = 0
        self._streak = 0
        self._window.clear()

    def _open(self, now: float) -> None:
        self._enter(State.OPEN)
        # The exponent is capped so that years of failed probes stay within a float.
        self._open_until = now + min(
            self._rules.max_open_s, self._rules.open_s * 2.0 ** min(self._failed_probes, 64)
        )

    def _half_open(self) -> None:
        self._enter(State.HALF_OPEN)
        self._probes_out = 0
        self._good_probes = 0

    def _enter(self, state: State) -> None:
        self._state = state
        self.closed = state is State.CLOSED
        self._epoch += 1


def failed(out: Outgoing, callee: str, permit: int, began: float, fault: Fault) -> None:
    """A call that was admitted with `permit` failed: tells its breaker and health check what that says of the callee."""
    assert out.replica is not None
    assert out.guard is not None
    replica, state = out.replica, out.guard.breaker
    if not out.sent or fault.code is Code.CANCELLED:
        state.release(permit)
        return
    now = time.monotonic()
    late, lost = fault.code is Code.DEADLINE_EXCEEDED, fault.reason == Reason.REASON_UNREACHABLE
    # What a service behind the callee failed counts there, and the callee has answered.
    behind = fault.metadata.get("callee", callee) != callee
    if behind or not (late or lost):
        replica.liveness.answered = now
    silent = replica.liveness.answered < began
    if out.method.lengthy or behind:
        state.release(permit)
    elif late:
        out.sent = state.timed_out(permit, now, now - began, out.kind, out.rows, silent)
    else:
        failed = float(counts_against_callee(fault.code, fault.reason))
        state.record(permit, now, now - began, failed, out.kind, out.rows, lost)
    if state.tripped or (late and silent and replica.liveness.answered < now - _QUIET_S):
        replica.health_check.begin()

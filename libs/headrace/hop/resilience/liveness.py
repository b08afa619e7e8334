"""Whether the process of one replica still answers: a pure state machine (the clock is passed in, monotonic seconds).

Timeouts do not say so: callers choose how long they wait, and some work takes long. A process is silent when it is asked for
its health and, for longer than a busy machine stops for, answers neither that nor any call. Any answer ends the silence.
"""

from __future__ import annotations

import math

# A process may be silent for `slow_s`, but for no longer than this: its health is never slow by nature.
_MOST_S = 2.0
# Timeouts fire slightly early.
_EARLY = 0.9
# A process that has not been called for long still has this share of the time for its answer.
_LEAST_SHARE = 0.5
# One that is known to be silent may take this long.
_PATIENT_S = 1.0


class Liveness:
    """What is known of one process. `answered`: when it last answered a call of any method, or the health check."""

    __slots__ = ("_most_s", "_silent_at", "answered")

    def __init__(self, slow_s: float, now: float) -> None:
        self._most_s = _EARLY * min(slow_s, _MOST_S)
        self._silent_at = -math.inf
        self.answered = now

    @property
    def silent(self) -> bool:
        """Whether it did not answer when it was asked, nor since."""
        return self._silent_at > self.answered

    def patience(self, now: float) -> float:
        """Seconds that a health check which begins now waits for its answer."""
        least = _LEAST_SHARE * self._most_s
        return max(self._most_s - (now - self.answered), least, _PATIENT_S if self.silent else 0.0)

    def unanswered(self, asked: float, now: float) -> None:
        """The health check that began at `asked` has waited in vain until now."""
        if self.answered < asked:
            self._silent_at = now

"""Whether a replica's process still answers: a pure state machine (the clock is passed in, monotonic seconds).

Timeouts do not say so: callers choose how long they wait. A process is silent when it is asked for its health and, for longer
than a busy machine stops for, answers neither that nor any call. Any answer ends the silence.
"""

from __future__ import annotations

import math

# It may take `slow_s`, but no longer than this: health is never slow by nature. A part is for timeouts that fire early.
_MOST_S = 2.0
_EARLY = 0.9
# The part of that which a process has for its answer in any case, also if it was not called for long.
_LEAST_SHARE = 0.5


class Liveness:
    """Of one process. `answered`: when it last answered a call of any method, or for its health."""

    __slots__ = ("_most_s", "_silent_at", "answered")

    def __init__(self, slow_s: float, now: float) -> None:
        self._most_s = _EARLY * min(slow_s, _MOST_S)
        self._silent_at = -math.inf
        self.answered = now

    @property
    def silent(self) -> bool:
        return self._silent_at > self.answered

    def patience(self, now: float) -> float:
        """Seconds that a question for its health waits for an answer."""
        return max(self._most_s - (now - self.answered), _LEAST_SHARE * self._most_s)

    def unanswered(self, asked: float, now: float) -> None:
        """The question of `asked` has waited in vain until now."""
        if self.answered < asked:
            self._silent_at = now

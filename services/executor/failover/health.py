"""Which of a model's backends runs it, and when a better one is tried again: a state machine, the clock passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

# Runs in a row that brought no answer in time before a backend counts as lost.
LATE_RUNS = 3
# Good probes in a row before a backend is trusted again.
GOOD_PROBES = 2


@dataclass(frozen=True, slots=True)
class ProbeIntervals:
    """Seconds. A lost backend is tried every `probe`; each failure doubles the wait, up to `longest`."""

    probe: float = 1.0
    longest: float = 30.0


@dataclass(slots=True)
class _State:
    lost: bool = False
    late: int = 0
    good: int = 0
    wait: float = 0.0
    due: float = 0.0
    # When it was last trusted again; who is lost soon after that waits longer than at first.
    back: float = field(default=float("-inf"))


class GroupHealth:
    """Backends 0 … n−1 in order of preference. The first that is not lost runs the model.

    If all are lost the last choice stays: a backend that may fail is better than none.
    """

    def __init__(self, count: int, patience: ProbeIntervals) -> None:
        self._states = [_State(wait=patience.probe) for _ in range(count)]
        self._patience = patience
        self.active = 0
        self.calm = True
        """Nobody is lost or late."""

    def lost(self, which: int, now: float) -> bool:
        """That backend can't run anything. Returns whether another one is active now."""
        state, patience = self._states[which], self._patience
        if state.lost:
            return False
        soon = now - state.back < 10 * patience.probe
        state.wait = min(state.wait * 2, patience.longest) if soon else patience.probe
        state.lost, state.late, state.good, state.due = True, 0, 0, now + state.wait
        self.calm = False
        return self._choose()

    def late(self, which: int, now: float) -> bool:
        """A run there brought no answer in time. Returns whether another one is active now."""
        state = self._states[which]
        state.late += 1
        self.calm = False
        return state.late >= LATE_RUNS and self.lost(which, now)

    def ran(self, which: int) -> None:
        """A run there came back. If it was lost and runs for want of a better one, it is not lost any more."""
        state = self._states[which]
        state.late = 0
        if which == self.active:
            state.lost = False
        self.calm = not any(s.lost or s.late for s in self._states)

    def probe_at(self) -> float | None:
        """When a lost backend should be tried next; None: none is lost."""
        return min((s.due for s in self._states if s.lost), default=None)

    def to_probe(self, now: float) -> list[int]:
        """The lost backends to try now."""
        return [i for i, s in enumerate(self._states) if s.lost and s.due <= now]

    def probed(self, which: int, *, good: bool, now: float) -> bool:
        """A lost backend was tried. Returns whether another one is active now."""
        state, patience = self._states[which], self._patience
        if not state.lost:
            return False
        if not good:
            state.good, state.wait = 0, min(state.wait * 2, patience.longest)
            state.due = now + state.wait
            return False
        state.good += 1
        state.due = now + patience.probe
        if state.good < GOOD_PROBES:
            return False
        state.lost, state.back = False, now
        self.calm = not any(s.lost or s.late for s in self._states)
        return self._choose()

    def is_lost(self, which: int) -> bool:
        return self._states[which].lost

    def _choose(self) -> bool:
        before = self.active
        self.active = next((i for i, s in enumerate(self._states) if not s.lost), before)
        return self.active != before

"""The health of a failover group: which backend runs the model, and when lost ones are probed.

A state machine; the caller passes the time (monotonic seconds).
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A backend counts as lost after this many late runs in a row.
LATE_RUNS = 3
# A lost backend may run again after this many good probes in a row.
GOOD_PROBES = 2
# The longest wait between two probes (seconds).
LONGEST_S = 30.0


@dataclass(slots=True)
class _BackendState:
    lost: bool = False
    late_runs: int = 0
    good_probes: int = 0
    wait: float = 0.0
    probe_due: float = 0.0
    # If it is lost again soon after its last recovery, its first wait is longer.
    recovered_at: float = field(default=float("-inf"))


class GroupHealth:
    """Backends 0 … n−1 in order of preference. The first that is not lost runs the model.

    If all are lost, the active one stays active: a backend that may fail is better than none. A lost one is probed after
    `probe_s` seconds; each failure doubles the wait, up to LONGEST_S.
    """

    def __init__(self, count: int, probe_s: float) -> None:
        self._states = [_BackendState(wait=probe_s) for _ in range(count)]
        self._probe_s = probe_s
        self.active = 0
        self.all_healthy = True
        """No backend is lost or late."""

    def lost(self, which: int, now: float) -> bool:
        """Notes that a backend can't run anything. Returns whether another one is active now."""
        state = self._states[which]
        if state.lost:
            return False
        soon = now - state.recovered_at < 10 * self._probe_s
        state.wait = min(state.wait * 2, LONGEST_S) if soon else self._probe_s
        state.lost, state.late_runs, state.good_probes, state.probe_due = True, 0, 0, now + state.wait
        self.all_healthy = False
        return self._choose()

    def late(self, which: int, now: float) -> bool:
        """Notes that a run there was late. Returns whether another one is active now."""
        state = self._states[which]
        state.late_runs += 1
        self.all_healthy = False
        return state.late_runs >= LATE_RUNS and self.lost(which, now)

    def ran(self, which: int) -> None:
        """Notes that a run there succeeded. If it was lost but active (no better one was left), it is not lost any more."""
        state = self._states[which]
        state.late_runs = 0
        if which == self.active:
            state.lost = False
        self.all_healthy = not any(s.lost or s.late_runs for s in self._states)

    def probe_at(self) -> float | None:
        """When to probe a lost backend next; None: none is lost."""
        return min((s.probe_due for s in self._states if s.lost), default=None)

    def to_probe(self, now: float) -> list[int]:
        """The lost backends to probe now."""
        return [i for i, s in enumerate(self._states) if s.lost and s.probe_due <= now]

    def probed(self, which: int, *, good: bool, now: float) -> bool:
        """Notes the probe of a lost backend. Returns whether another one is active now."""
        state = self._states[which]
        if not state.lost:
            return False
        if not good:
            state.good_probes, state.wait = 0, min(state.wait * 2, LONGEST_S)
            state.probe_due = now + state.wait
            return False
        state.good_probes += 1
        state.probe_due = now + self._probe_s
        if state.good_probes < GOOD_PROBES:
            return False
        state.lost, state.recovered_at = False, now
        self.all_healthy = not any(s.lost or s.late_runs for s in self._states)
        return self._choose()

    def is_lost(self, which: int) -> bool:
        return self._states[which].lost

    def _choose(self) -> bool:
        before = self.active
        self.active = next((i for i, s in enumerate(self._states) if not s.lost), before)
        return self.active != before

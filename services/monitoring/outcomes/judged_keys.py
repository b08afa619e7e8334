"""Judged predictions where arms stick to keys: each key is wrong once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.monitoring.outcomes.records import Judged, Judgement

# Keys of one rollout that are told apart; a set of so many takes about 20 MB. What further ones add is not counted.
MAX_KEYS = 200_000
# Rollouts that are remembered; the one that was not asked for longest goes first.
MAX_ROLLOUTS = 8
# Judgements that are read at one look, which holds up what else the store does.
PER_LOOK = 20_000

# (pipeline, first release, id after which, at most) → judgements in their order.
Read = Callable[[str, int, int, int], Sequence[Judgement]]


@dataclass(slots=True)
class KeyCounts:
    """Cumulative counts of one rollout, by release and arm: rows of keys that had not been wrong before in any arm, and keys that
    were wrong for the first time. So a customer whom no model understands counts once, and not again when a growing weight
    moves it to the canary; as `errors` are counted."""

    after: int = 0
    counts: dict[tuple[int, str], Judged] = field(default_factory=dict)
    _wrong: set[int] = field(default_factory=set)

    def take(self, judgements: Sequence[Judgement]) -> None:
        """Counts these, which follow the earlier ones."""
        for judgement in judgements:
            self.after = judgement.id
            if judgement.key in self._wrong or len(self._wrong) >= MAX_KEYS:
                continue
            arm = judgement.release, judgement.arm
            before = self.counts.get(arm, Judged(0, 0))
            self.counts[arm] = Judged(before.rows + 1, before.wrong + judgement.wrong)
            if judgement.wrong:
                self._wrong.add(judgement.key)


class JudgedKeys:
    """Follows the judgements of rollouts with sticky arms. Not for several threads. After a restart it counts anew from what is
    kept, to the same numbers."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._rollouts: dict[tuple[str, int], KeyCounts] = {}

    def __call__(self, pipeline: str, since: int) -> Mapping[tuple[int, str], Judged]:
        """(release, arm) → counts, of the releases from number `since` on. Raises what reading raises."""
        known = self._rollouts.pop((pipeline, since), None) or KeyCounts()
        self._rollouts[pipeline, since] = known  # as the newest
        if len(self._rollouts) > MAX_ROLLOUTS:
            del self._rollouts[next(iter(self._rollouts))]
        known.take(self._read(pipeline, since, known.after, PER_LOOK))
        return dict(known.counts)

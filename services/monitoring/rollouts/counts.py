"""What the analyser gets to see: cumulative counts by source, release and arm. Late, lost and repeated reports do no harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["row", "drawn"]


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Cumulative counts of one arm.

    By row: `rows`, `errors`: rows answered, and those with a fault of ours; `latency`: rows by bucket; `labelled`, `wrong`: rows
    whose outcome is known, and those that it contradicts.

    By drawn unit, that is, by what chance divided among the arms, without what a rule chose: where each request is drawn anew,
    `rows` and `errors` are requests, and requests that lost a row. Where arms stick to keys, `rows` are those of keys that had
    not failed before in any arm, and `errors` keys that failed for the first time in any arm; so a client that always fails
    counts once, and not again when a growing weight moves it to the canary. `latency`: answers by bucket, as rows that are
    answered together have one time. `assigned`: requests, or keys that no arm had met, for the sample ratio.
    """

    rows: int = 0
    errors: int = 0
    latency: tuple[int, ...] = ()
    labelled: int = 0
    wrong: int = 0
    assigned: int = 0

    def minus(self, earlier: ArmCounts) -> ArmCounts | None:
        """What was added since `earlier`; None: something is smaller, so `earlier` is not earlier, or a part is larger than its
        whole."""
        latency = _less(self.latency, earlier.latency)
        rest = (
            self.rows - earlier.rows,
            self.errors - earlier.errors,
            self.labelled - earlier.labelled,
            self.wrong - earlier.wrong,
            self.assigned - earlier.assigned,
        )
        if latency is None or min(rest) < 0 or self.errors > self.rows or self.wrong > self.labelled:
            return None
        return ArmCounts(rest[0], rest[1], latency, *rest[2:])


@dataclass(frozen=True, slots=True)
class Tick:
    """Counts of one source since it began. `source`: a process (an epoch of a router), or another collector of counts; a restart
    begins another source. `release`: under which number the rows were answered."""

    source: str
    release: int
    arms: Mapping[str, ArmCounts]
    unit: Unit = "row"


@dataclass(slots=True)
class Streams:
    """Turns cumulative ticks into increments, each counted once."""

    last: dict[tuple[str, int, Unit], dict[str, ArmCounts]] = field(default_factory=dict)

    def take(self, tick: Tick) -> dict[str, ArmCounts] | None:
        """What the tick adds, by arm; None: nothing, as it is late or can't be true."""
        name = tick.source, tick.release, tick.unit
        known = self.last.get(name, {})
        added = {arm: counts.minus(known.get(arm, ArmCounts())) for arm, counts in tick.arms.items()}
        if any(more is None for more in added.values()):
            return None
        self.last[name] = {**known, **tick.arms}
        return {arm: more for arm, more in added.items() if more is not None and more != ArmCounts()}

    def forget_before(self, release: int) -> None:
        """Forgets streams of releases that are no longer answered under; ticks of them are ignored by the caller."""
        self.last = {name: arms for name, arms in self.last.items() if name[1] >= release}


def _less(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...] | None:
    length = max(len(now), len(before))
    now, before = now + (0,) * (length - len(now)), before + (0,) * (length - len(before))
    rest = tuple(n - b for n, b in zip(now, before, strict=True))
    if min(rest, default=0) < 0:
        return None
    return rest if any(rest) else ()

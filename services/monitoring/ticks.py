"""The counts of all routers as one: the newest tick of each process, summed over processes, those that have ended included."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.ticks import ArmFigures, ArmName, Tick, added

# Epochs that are kept apart. Of more, those that ended are summed up.
_EPOCHS = 16
# Identities of summed epochs: a tick that comes late from one would count twice.
_SUMMED = 4096
# Releases of one pipeline of which counts are kept; the oldest go first.
_RELEASES = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all routers have counted for one pipeline. `arms`: (release, arm) → counts of rows that were drawn by weight;
    `by_rule`: the same of rows that a rule sent there. No count is ever smaller in a later snapshot of the same process."""

    arms: Mapping[tuple[int, str], ArmFigures]
    by_rule: Mapping[tuple[int, str], ArmFigures]


@dataclass(slots=True)
class _Epoch:
    sequence: int
    heard: float
    arms: dict[ArmName, ArmFigures] = field(default_factory=dict)


class Ticks:
    """Takes ticks and adds them up. `clock`: monotonic seconds; `silent_s`: a router that was silent for so long has ended.

    A tick may come twice, late or never: only the newest of an epoch counts, and its counts are cumulative.
    """

    def __init__(self, clock: Callable[[], float], silent_s: float = 60.0) -> None:
        self._clock = clock
        self._silent_s = silent_s
        self._epochs: dict[int, _Epoch] = {}
        self._ended: dict[ArmName, ArmFigures] = {}
        self._summed: OrderedDict[int, None] = OrderedDict()

    def take(self, tick: Tick) -> bool:
        """Counts a tick. True: ticks before its base are missing, so the router should send everything."""
        if tick.epoch in self._summed:
            return False
        epoch = self._epochs.get(tick.epoch)
        behind = tick.base > (0 if epoch is None else epoch.sequence)
        if epoch is None:
            epoch = self._epochs[tick.epoch] = _Epoch(0, self._clock())
            self._sum_up_ended()
        if tick.sequence <= epoch.sequence:
            return False
        epoch.heard = self._clock()
        for name, figures in tick.arms.items():
            known = epoch.arms.get(name)
            if known is None or figures.rows >= known.rows:
                epoch.arms[name] = figures
        if not behind:
            epoch.sequence = tick.sequence
        self._forget_old_releases(tick)
        return behind

    def snapshot(self, pipeline: str) -> Snapshot:
        """The sums over all routers. May be called on any thread."""
        sums: tuple[dict[tuple[int, str], ArmFigures], ...] = {}, {}
        # Copies, since another thread may take a tick meanwhile.
        for counts in (self._ended, *(epoch.arms for epoch in list(self._epochs.values()))):
            for name, figures in list(counts.items()):
                if name.pipeline == pipeline:
                    arms, key = sums[name.by_rule], (name.release, name.arm)
                    arms[key] = added(arms[key], figures) if key in arms else figures
        return Snapshot(*sums)

    def by_epoch(self, pipeline: str) -> dict[tuple[int, int], dict[str, ArmFigures]]:
        """(epoch, release) → arm → counts of rows that were drawn by weight, of the epochs that are kept apart. Who must count
        each row once, even if another process takes over, needs to know whose counts they are."""
        found: dict[tuple[int, int], dict[str, ArmFigures]] = {}
        for number, epoch in self._epochs.items():
            for name, figures in epoch.arms.items():
                if name.pipeline == pipeline and not name.by_rule:
                    found.setdefault((number, name.release), {})[name.arm] = figures
        return found

    def by_router(self) -> dict[int, dict[ArmName, ArmFigures]]:
        """Epoch → all its counts, of the epochs that are kept apart."""
        return {number: dict(epoch.arms) for number, epoch in self._epochs.items()}

    def routers(self, within_s: float | None = None) -> int:
        """How many routers were heard of in so many seconds; None: that are not taken for ended yet."""
        now, longest = self._clock(), self._silent_s if within_s is None else within_s
        return sum(now - epoch.heard <= longest for epoch in self._epochs.values())

    def _sum_up_ended(self) -> None:
        """Sums up the epochs that have been silent longest, while there are too many."""
        now = self._clock()
        silent = sorted(
            (epoch.heard, number)
            for number, epoch in self._epochs.items()
            if now - epoch.heard > self._silent_s
        )
        for _, number in silent[: max(len(self._epochs) - _EPOCHS, 0)]:
            for name, figures in self._epochs.pop(number).arms.items():
                known = self._ended.get(name)
                self._ended[name] = figures if known is None else added(known, figures)
            self._summed[number] = None
            if len(self._summed) > _SUMMED:
                self._summed.popitem(last=False)

    def _forget_old_releases(self, tick: Tick) -> None:
        for pipeline in {name.pipeline for name in tick.arms}:
            every = (self._ended, *(epoch.arms for epoch in self._epochs.values()))
            numbers = {n.release for counts in every for n in counts if n.pipeline == pipeline}
            if len(numbers) <= _RELEASES:
                continue
            kept = set(sorted(numbers)[-_RELEASES:])
            for counts in every:
                for name in [n for n in counts if n.pipeline == pipeline and n.release not in kept]:
                    del counts[name]

"""The counts of all routers as one: the newest tick of each process, summed over processes, those that have ended included."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.ticks import ArmFigures, ArmName, KeySetName, Tick, added

# Epochs that are kept apart. Of more, those that ended are summed up.
_EPOCHS = 16
# Identities of summed epochs: a tick that comes late from one would count twice.
_SUMMED = 4096
# Releases of one pipeline of which counts are kept; the oldest go first.
_RELEASES = 50
# Salts of one pipeline of which keys are kept: that of now, and the one before.
_SALTS = 2
# Keys of one arm that can be told apart; a set of so many takes about 14 MB.
MAX_KEYS = 200_000


@dataclass(frozen=True, slots=True)
class KeyFigures:
    """Distinct keys that one arm has met within one salt, and those of which a row failed by a fault of ours.

    `saturated`: there were more than can be told apart, and only the first ones are counted.
    """

    keys: int
    bad: int
    saturated: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all routers have counted for one pipeline. `arms`: (release, arm) → counts; `keys`: (salt, arm) → distinct keys.

    No count is ever smaller in a later snapshot of the same process.
    """

    arms: Mapping[tuple[int, str], ArmFigures]
    keys: Mapping[tuple[str, str], KeyFigures]

    def arm(self, name: str, since: int = 0) -> ArmFigures | None:
        """The counts of an arm over the releases from number `since` on; None: nothing is known of it."""
        total: ArmFigures | None = None
        for (release, arm), figures in self.arms.items():
            if arm == name and release >= since:
                total = figures if total is None else added(total, figures)
        return total


@dataclass(slots=True)
class _Epoch:
    sequence: int
    heard: float
    arms: dict[ArmName, ArmFigures] = field(default_factory=dict)


@dataclass(slots=True)
class _Keys:
    keys: set[int] = field(default_factory=set)
    bad: set[int] = field(default_factory=set)
    saturated: bool = False

    def add(self, keys: set[int], bad: set[int]) -> None:
        if len(self.keys) + len(keys) > MAX_KEYS and len(self.keys | keys) > MAX_KEYS:
            self.saturated = True
        if not self.saturated:
            self.keys |= keys
        # Of a saturated set, the keys in it are still watched.
        self.bad |= bad & self.keys


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
        self._keys: dict[KeySetName, _Keys] = {}

    def take(self, tick: Tick) -> bool:
        """Counts a tick. True: ticks before its base are missing, so the router should send everything."""
        if tick.epoch in self._summed:
            return False
        epoch = self._epochs.get(tick.epoch)
        behind = tick.base > (0 if epoch is None else epoch.sequence)
        if epoch is None:
            epoch = self._epochs[tick.epoch] = _Epoch(0, self._clock())
            self._sum_up_ended()
        # Keys are sets, so they may come in any order.
        self._take_keys(tick)
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
        """The sums over all routers."""
        arms: dict[tuple[int, str], ArmFigures] = {}
        for counts in (self._ended, *(epoch.arms for epoch in self._epochs.values())):
            for name, figures in counts.items():
                if name.pipeline == pipeline:
                    key = name.release, name.arm
                    arms[key] = added(arms[key], figures) if key in arms else figures
        keys = {
            (name.salt, name.arm): KeyFigures(len(found.keys), len(found.bad), found.saturated)
            for name, found in self._keys.items()
            if name.pipeline == pipeline
        }
        return Snapshot(arms, keys)

    def pipelines(self) -> set[str]:
        """Names of the pipelines that have counts."""
        return {
            name.pipeline
            for counts in (self._ended, *(e.arms for e in self._epochs.values()))
            for name in counts
        }

    def routers(self) -> int:
        """How many routers are heard of."""
        now = self._clock()
        return sum(now - epoch.heard <= self._silent_s for epoch in self._epochs.values())

    def _take_keys(self, tick: Tick) -> None:
        for name, new in tick.new_keys.items():
            found = self._keys.pop(name, None) or _Keys()
            self._keys[name] = found  # as the newest
            found.add(set(new.keys), set(new.bad))
            found.saturated |= new.saturated
            salts = list(dict.fromkeys(k.salt for k in self._keys if k.pipeline == name.pipeline))
            for old in salts[:-_SALTS]:
                for key in [k for k in self._keys if k.pipeline == name.pipeline and k.salt == old]:
                    del self._keys[key]

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

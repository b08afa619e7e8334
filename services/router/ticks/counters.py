"""What the router has counted, arm by arm, and the ticks that tell it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from headrace.columns.column import Mask
from headrace.pipeline import Pipeline
from headrace.releases import Release, RolloutState
from headrace.ticks import ArmName, Tick
from services.router.ticks.arm_counts import ArmCounter, ours
from services.router.ticks.exposures import Exposures, places_in_requests, taken
from services.router.ticks.sticky_keys import KeySets, key_hash, sticky_values

# Arms of releases that are kept, all pipelines together; the one that was not used for longest goes first. The receiver
# keeps what it was told of it.
MAX_ARMS = 200
_JUDGED = (RolloutState.RUNNING, RolloutState.PAUSED)


@dataclass(frozen=True, slots=True)
class Counted:
    """How the rows of one release are counted.

    `release`: its number, 0 = none. `compares`: several arms get rows by weight, so that what was drawn is counted, too: keys, if
    the column `by` decides (distinct within `salt`), else requests. `exposes`: it must be known which rows got which arm, for an
    experiment or a guard that needs outcomes.
    """

    release: int = 0
    compares: bool = False
    by: str | None = None
    salt: str = ""
    exposes: bool = False

    @classmethod
    def of(cls, release: Release | None) -> Counted:
        """How a release wants it; None: there is none."""
        if release is None:
            return NO_RELEASE
        assign, rollout = release.assign, release.rollout
        judged = rollout is not None and rollout.state in _JUDGED
        exposes = release.experiment is not None or (
            judged and rollout is not None and "wrong" in rollout.guards
        )
        compares = judged or sum(weight > 0 for weight in assign.weights.values()) > 1
        return cls(release.number, compares, assign.by if compares else None, assign.salt, exposes)


NO_RELEASE = Counted()


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a batch that one arm answers. `positions`: of its rows in `whole`; None: all of them.

    `by_rule`: bool (rows of the part,), those that a rule of the release sent there; None: all were drawn by weight.
    """

    arm: str
    pipeline: Pipeline
    whole: Batch
    batch: Batch
    positions: NDArray[np.intp] | None = None
    by_rule: Mask | None = None


class Counters:
    """Counts of all arms since this process began. Not for several threads."""

    def __init__(self) -> None:
        self.epoch = secrets.randbits(63) + 1
        self.exposures = Exposures()
        self._arms: dict[ArmName, ArmCounter] = {}
        self._keys = KeySets()
        self._sequence = 0
        # The newest tick that the receiver has; 0: it may have none.
        self._received = 0

    def answered(self, how: Counted, part: Part, answer: Batch, seconds: float) -> None:
        """An arm has answered its rows of a batch, `seconds` after they arrived."""
        if part.by_rule is None:
            self._answered(how, part, answer, seconds, by_rule=False)
            return
        for by_rule in (False, True):
            rows = np.flatnonzero(part.by_rule == by_rule)
            if len(rows):
                self._answered(how, _rows_of(part, rows), answer.take(rows), seconds, by_rule=by_rule)

    def failed(self, how: Counted, part: Part, seconds: float) -> None:
        """An arm gave no answer at all, as our own code failed."""
        by_rule = part.by_rule is not None and bool(part.by_rule.all())
        counter = self._counter(how, part, by_rule=by_rule)
        counter.fail(len(part.batch), seconds)
        if how.compares and not by_rule:
            self._count_drawn(how, part, counter, frozenset(range(len(part.batch))), seconds)

    def tick(self) -> Tick:
        """What the receiver lacks. It is told again until `received` says that it has it."""
        self._sequence += 1
        everything = not self._received
        arms = {
            name: counter.figures() for name, counter in self._arms.items() if counter.changed or everything
        }
        exposures = self.exposures
        return Tick(self.epoch, self._sequence, self._received, arms, exposures.next(), exposures.lost)

    def received(self, tick: Tick) -> None:
        """The receiver has this tick and all before it."""
        self._received = tick.sequence
        for name, figures in tick.arms.items():
            counter = self._arms.get(name)
            # What was counted while the tick was on its way is not in it.
            if counter is not None and counter.rows == figures.rows:
                counter.changed = False
        self.exposures.sent(len(tick.exposures))

    def start_over(self) -> None:
        """The receiver lacks earlier ticks: it began anew, or is another one."""
        self._received = 0

    def _answered(self, how: Counted, part: Part, answer: Batch, seconds: float, *, by_rule: bool) -> None:
        counter = self._counter(how, part, by_rule=by_rule)
        timed = counter.note(answer, seconds)
        if by_rule or not (how.compares or how.exposes):
            return
        errors = answer.errors
        bad = frozenset(row for row, error in errors.items() if ours(error)) if errors else frozenset()
        if how.compares:
            self._count_drawn(how, part, counter, bad, seconds if timed else None)
        if how.exposes:
            name = ArmName(part.pipeline.name, how.release, part.arm)
            places = taken(places_in_requests(part.whole.rows), part.positions)
            keys = None if how.by is None else [*map(_hashed, sticky_values(part.batch, how.by))]
            self.exposures.note(name, answer, places, keys, part.pipeline.outputs)

    def _count_drawn(
        self, how: Counted, part: Part, counter: ArmCounter, bad: frozenset[int], seconds: float | None
    ) -> None:
        """Counts what was divided among the arms: keys, and requests of rows without one. `seconds` None: no row took time."""
        units, ids = counter.units, part.batch.rows.request_ids
        if seconds is not None:
            units.answer(seconds)
        if how.by is None:
            units.requests(ids, bad)
            return
        keys = sticky_values(part.batch, how.by)
        units.keys(self._keys.of(part.pipeline.name, how.salt).count(keys, bad))
        if None in keys:
            rows = [row for row, key in enumerate(keys) if key is None]
            units.requests([ids[row] for row in rows], [i for i, row in enumerate(rows) if row in bad])

    def _counter(self, how: Counted, part: Part, *, by_rule: bool) -> ArmCounter:
        # A plain tuple is equal to the name, and made in a third of the time.
        counter = self._arms.get((part.pipeline.name, how.release, part.arm, by_rule))  # type: ignore[call-overload]  # equal
        if counter is None:
            name = ArmName(part.pipeline.name, how.release, part.arm, by_rule)
            counter = self._arms[name] = ArmCounter(part.pipeline.outputs)
            if len(self._arms) > MAX_ARMS:
                # Those that changed last were last counted; of the others, the first goes.
                quiet = next((n for n, c in self._arms.items() if not c.changed), next(iter(self._arms)))
                del self._arms[quiet]
        found: ArmCounter = counter
        return found


def _rows_of(part: Part, rows: NDArray[np.intp]) -> Part:
    positions = rows if part.positions is None else part.positions[rows]
    return Part(part.arm, part.pipeline, part.whole, part.batch.take(rows), positions)


def _hashed(key: object) -> int | None:
    return None if key is None else key_hash(key)

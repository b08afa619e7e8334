"""What the router has counted, arm by arm, and the ticks that tell it."""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, RowError
from headrace.columns.column import Mask
from headrace.hop.errors import OUR_CODES, Blame, blame
from headrace.pipeline import Pipeline
from headrace.releases import Release, RolloutState
from headrace.ticks import (
    LATENCY_BUCKETS,
    LATENCY_EDGES_S,
    ArmFigures,
    ArmName,
    AssignedFigures,
    Exposure,
    Tick,
    latency_bucket,
)
from services.router.cache.run import CACHED
from services.router.facts.queue import Lane
from services.router.ticks.exposures import EXPOSURE_BYTES, exposures, places_in_requests, taken
from services.router.ticks.sticky_keys import KeySets, key_hash, sticky_values


def ours(error: RowError) -> bool:
    """Whether a row failed by a fault of ours. A deadline counts, whoever set it: an arm that is too slow makes it pass, and
    callers of both arms set the same ones."""
    return error.code in OUR_CODES or blame(error.reason) is not Blame.CALLER


class UnitCounter:
    """What a comparison of arms counts of one arm: the units that chance divided, each once. Cumulative."""

    __slots__ = ("_answers", "_bad_requests", "_keys", "_requests")

    def __init__(self) -> None:
        self._requests = self._bad_requests = 0
        self._keys = AssignedFigures()
        self._answers: list[int] = []

    def answer(self, seconds: float) -> None:
        """One answer to rows that were drawn."""
        if not self._answers:
            self._answers = [0] * LATENCY_BUCKETS
        self._answers[latency_bucket(seconds)] += 1

    def requests(self, ids: Sequence[str], bad: Collection[int]) -> None:
        """`ids`: the request of each row; `bad`: positions of rows that failed by a fault of ours. A request is drawn as a
        whole, so its rows are one unit."""
        self._requests += len(set(ids))
        if bad:
            self._bad_requests += len({ids[row] for row in bad})

    def keys(self, more: AssignedFigures) -> None:
        """What `sticky_keys.KeySet` found."""
        self._keys = self._keys.plus(more)

    def figures(self) -> AssignedFigures:
        """All counts."""
        own = AssignedFigures(self._requests, self._bad_requests, answers=tuple(self._answers))
        return own.plus(self._keys)


class ArmCounter:
    """Counts of one arm, cumulative. Not for several threads."""

    __slots__ = ("_errors", "_latency", "changed", "rows", "units")

    def __init__(self) -> None:
        # So far.
        self.rows = 0
        self._errors = 0
        self._latency = [0] * LATENCY_BUCKETS
        # What chance divided among the arms; the caller counts with it.
        self.units = UnitCounter()
        # Whether the receiver lacks any of it.
        self.changed = True

    def note(self, answer: Batch, seconds: float) -> int:
        """An answer of this arm, `seconds` after its rows arrived. Returns how many rows took so long: a kept answer says nothing
        of the time of an arm."""
        count = timed = len(answer)
        if CACHED in answer.columns:
            timed = int(np.count_nonzero(answer.columns[CACHED].array < 0))
        self.rows += count
        if answer.errors:
            self._errors += sum(map(ours, answer.errors.values()))
        self._latency[bisect_left(LATENCY_EDGES_S, seconds)] += timed
        self.changed = True
        return timed

    def fail(self, rows: int, seconds: float) -> None:
        """So many rows got no answer at all, as our own code failed."""
        self.rows += rows
        self._errors += rows
        self._latency[latency_bucket(seconds)] += rows
        self.changed = True

    def figures(self) -> ArmFigures:
        """All counts."""
        return ArmFigures(self.rows, self._errors, tuple(self._latency), self.units.figures())


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
    def of(cls, release: Release) -> Counted:
        """How a release wants it."""
        assign, rollout = release.assign, release.rollout
        judged = rollout is not None and rollout.state in _JUDGED
        exposes = release.experiment is not None or (
            judged and rollout is not None and "wrong" in rollout.guards
        )
        compares = judged or sum(weight > 0 for weight in assign.weights.values()) > 1
        return cls(release.number, compares, assign.by if compares else None, assign.salt, exposes)


NO_RELEASE = Counted()


# Not frozen: creating it would take three times as long.
@dataclass(slots=True, eq=False)
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
    """Counts of all arms since this process began. `exposures`: where they wait; None: nobody is told. Not for threads."""

    def __init__(self, exposures: Lane[Sequence[Exposure]] | None = None) -> None:
        self.epoch = secrets.randbits(63) + 1
        self._exposures = exposures
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
        return Tick(self.epoch, self._sequence, self._received, arms)

    def received(self, tick: Tick) -> None:
        """The receiver has this tick and all before it."""
        self._received = tick.sequence
        for name, figures in tick.arms.items():
            counter = self._arms.get(name)
            # What was counted while the tick was on its way is not in it.
            if counter is not None and counter.rows == figures.rows:
                counter.changed = False

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
        if how.exposes and self._exposures is not None:
            name = ArmName(part.pipeline.name, how.release, part.arm)
            places = taken(places_in_requests(part.whole.rows), part.positions)
            keys = None if how.by is None else [*map(_hashed, sticky_values(part.batch, how.by))]
            found = exposures(name, answer, places, keys, part.pipeline.outputs)
            self._exposures.append(found, len(found), EXPOSURE_BYTES * len(found))

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
            counter = self._arms[name] = ArmCounter()
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

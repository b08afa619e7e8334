"""What the router has counted, arm by arm, and the ticks that tell it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from headrace.pipeline import Pipeline
from headrace.ticks import ArmName, KeySetName, Tick
from services.router.ticks.arm_counts import ArmCounter, ours
from services.router.ticks.exposures import Exposures, places_in_requests, taken
from services.router.ticks.first_failures import FirstFailures
from services.router.ticks.key_sets import KeySets

# Arms of releases that are kept, all pipelines together; the one that was not used for longest goes first. The receiver
# keeps what it was told of it.
MAX_ARMS = 200


@dataclass(frozen=True, slots=True)
class Counted:
    """How the rows of one release are counted.

    `release`: its number, 0 = none; `salt`: of its assignment. `keys`: hashes of the sticky values of a batch's rows, uint64
    (rows,), one of its own for a row without a value; None: keys are not counted. `exposes`: whether it must be known which
    rows got which arm, for an experiment or a guard that needs outcomes. `divides`: whether arms get shares by weight, so that
    what is divided must be counted.
    """

    release: int = 0
    salt: str = ""
    keys: Callable[[Batch], NDArray[np.uint64]] | None = None
    exposes: bool = False
    divides: bool = False


NO_RELEASE = Counted()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a batch that one arm answers. `positions`: of its rows in `whole`; None: all of them. `drawn`: bool
    (rows,), those whose arm was drawn by weight, and not chosen by a rule; None: all."""

    arm: str
    pipeline: Pipeline
    whole: Batch
    batch: Batch
    positions: NDArray[np.intp] | None = None
    drawn: NDArray[np.bool_] | None = None


class Counters:
    """Counts of all arms since this process began. Not for several threads."""

    def __init__(self) -> None:
        self.epoch = secrets.randbits(63) + 1
        self.exposures = Exposures()
        self._arms: dict[ArmName, ArmCounter] = {}
        self._keys = KeySets()
        self._first_failures = FirstFailures()
        self._sequence = 0
        # The newest tick that the receiver has; 0: it may have none.
        self._received = 0

    def answered(self, how: Counted, part: Part, answer: Batch, seconds: float) -> None:
        """An arm has answered its rows of a batch, `seconds` after they arrived."""
        # A plain tuple is equal to the name, and made in a third of the time.
        counter = self._arms.get((part.pipeline.name, how.release, part.arm))  # type: ignore[call-overload]  # equal
        if counter is None:
            counter = self._add(ArmName(part.pipeline.name, how.release, part.arm), part.pipeline)
        counter.note(answer, seconds)
        if how.keys is None and not how.exposes and not how.divides:
            return
        bad = [row for row, error in answer.errors.items() if ours(error)] if answer.errors else []
        keys = self._count_units(how, part, counter, bad, seconds)
        if how.exposes:
            name = ArmName(part.pipeline.name, how.release, part.arm)
            places = taken(places_in_requests(part.whole.rows.request_ids), part.positions)
            self.exposures.note(name, answer, places, keys, part.pipeline.outputs)

    def failed(self, how: Counted, part: Part, seconds: float) -> None:
        """An arm gave no answer at all, as our own code failed."""
        name = ArmName(part.pipeline.name, how.release, part.arm)
        counter = self._arms.get(name)
        if counter is None:
            counter = self._add(name, part.pipeline)
        counter.fail(len(part.batch), seconds)
        self._count_units(how, part, counter, list(range(len(part.batch))), seconds)

    def tick(self) -> Tick:
        """What the receiver lacks. It is told again until `received` says that it has it."""
        self._sequence += 1
        everything = not self._received
        arms = {
            name: counter.figures() for name, counter in self._arms.items() if counter.changed or everything
        }
        return Tick(
            self.epoch,
            self._sequence,
            self._received,
            arms,
            self._keys.untold(everything=everything),
            self.exposures.next(),
            self.exposures.lost,
        )

    def received(self, tick: Tick) -> None:
        """The receiver has this tick and all before it."""
        self._received = tick.sequence
        for name, figures in tick.arms.items():
            counter = self._arms.get(name)
            # What was counted while the tick was on its way is not in it.
            if counter is not None and counter.rows == figures.rows:
                counter.changed = False
        self._keys.told(tick.new_keys)
        self.exposures.sent(len(tick.exposures))

    def start_over(self) -> None:
        """The receiver lacks earlier ticks: it began anew, or is another one."""
        self._received = 0

    def _count_units(
        self, how: Counted, part: Part, counter: ArmCounter, bad: list[int], seconds: float
    ) -> NDArray[np.uint64] | None:
        """Counts what chance divided. `bad`: positions of rows that failed by a fault of ours. Returns the keys of the rows."""
        drawn = part.drawn
        if how.divides and (drawn is None or drawn.any()):
            counter.units.answer(seconds)
        if how.keys is None:
            if how.divides:
                counter.units.requests(*_of_drawn(part.batch.rows.request_ids, bad, drawn))
            return None
        keys = how.keys(part.batch)
        name = part.pipeline.name
        every = keys.tolist()
        self._keys.add(KeySetName(name, how.salt, part.arm), every, [every[row] for row in bad])
        if how.divides:
            mine, places = _of_drawn(every, bad, drawn)
            counts = self._first_failures.count(name, how.salt, list(mine), [mine[row] for row in places])
            counter.units.keys(*counts)
        return keys

    def _add(self, name: ArmName, pipeline: Pipeline) -> ArmCounter:
        counter = self._arms[name] = ArmCounter(pipeline.outputs)
        if len(self._arms) > MAX_ARMS:
            # Those that changed last were last counted; of the others, the first goes.
            quiet = next((n for n, c in self._arms.items() if not c.changed), next(iter(self._arms)))
            del self._arms[quiet]
        return counter


def _of_drawn(
    values: Sequence[T], bad: list[int], drawn: NDArray[np.bool_] | None
) -> tuple[Sequence[T], list[int]]:
    """The values of the rows that were drawn, and the positions of the bad ones among them."""
    if drawn is None:
        return values, bad
    rows = np.flatnonzero(drawn).tolist()
    places = {row: place for place, row in enumerate(rows)}
    return [values[row] for row in rows], [places[row] for row in bad if row in places]

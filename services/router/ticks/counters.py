"""What the router has counted, arm by arm, and the ticks that tell it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from headrace.pipeline import Pipeline
from headrace.ticks import ArmName, KeySetName, Tick
from services.router.ticks.arm_counts import ArmCounter, ours
from services.router.ticks.exposures import Exposures, places_in_requests, taken
from services.router.ticks.key_sets import KeySets

# Arms of releases that are kept, all pipelines together; the one that was not used for longest goes first. The receiver
# keeps what it was told of it.
MAX_ARMS = 200


@dataclass(frozen=True, slots=True)
class Counted:
    """How the rows of one release are counted.

    `release`: its number, 0 = none; `salt`: of its assignment. `keys`: hashes of the sticky values of a batch's rows, uint64
    (rows,), one of its own for a row without a value; None: keys are not counted. `exposes`: whether it must be known which
    rows got which arm, for an experiment or a guard that needs outcomes.
    """

    release: int = 0
    salt: str = ""
    keys: Callable[[Batch], NDArray[np.uint64]] | None = None
    exposes: bool = False


NO_RELEASE = Counted()


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a batch that one arm answers. `positions`: of its rows in `whole`; None: all of them."""

    arm: str
    pipeline: Pipeline
    whole: Batch
    batch: Batch
    positions: NDArray[np.intp] | None = None


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
        # A plain tuple is equal to the name, and made in a third of the time.
        counter = self._arms.get((part.pipeline.name, how.release, part.arm))  # type: ignore[call-overload]  # equal
        if counter is None:
            counter = self._add(ArmName(part.pipeline.name, how.release, part.arm), part.pipeline)
        counter.note(answer, seconds)
        if how.keys is None and not how.exposes:
            return
        name = ArmName(part.pipeline.name, how.release, part.arm)
        keys = None if how.keys is None else how.keys(part.batch)
        if keys is not None:
            bad = (
                keys[[row for row, error in answer.errors.items() if ours(error)]]
                if answer.errors
                else keys[:0]
            )
            self._keys.add(KeySetName(name.pipeline, how.salt, part.arm), keys.tolist(), bad.tolist())
        if how.exposes:
            places = taken(places_in_requests(part.whole.rows.request_ids), part.positions)
            self.exposures.note(name, answer, places, keys, part.pipeline.outputs)

    def failed(self, how: Counted, part: Part, seconds: float) -> None:
        """An arm gave no answer at all, as our own code failed."""
        name = ArmName(part.pipeline.name, how.release, part.arm)
        counter = self._arms.get(name)
        if counter is None:
            counter = self._add(name, part.pipeline)
        counter.fail(len(part.batch), seconds)
        if how.keys is not None:
            keys = how.keys(part.batch).tolist()
            self._keys.add(KeySetName(name.pipeline, how.salt, part.arm), keys, keys)

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

    def _add(self, name: ArmName, pipeline: Pipeline) -> ArmCounter:
        counter = self._arms[name] = ArmCounter(pipeline.outputs)
        if len(self._arms) > MAX_ARMS:
            # Those that changed last were last counted; of the others, the first goes.
            quiet = next((n for n, c in self._arms.items() if not c.changed), next(iter(self._arms)))
            del self._arms[quiet]
        return counter

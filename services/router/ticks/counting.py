"""What the router has counted, arm by arm, and the ticks that tell it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
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
    """How the rows of one release are counted. `release`: its number, 0 = none; `salt`: of its assignment.

    `exposes`: whether it must be known which rows got which arm, for an experiment or a guard that needs outcomes.
    """

    release: int = 0
    salt: str = ""
    exposes: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The rows of one arm in one call. `positions`: of its rows in the batch, None = all; `keys`: hash of each row's sticky
    value, uint64 (rows,), None = the assignment is not sticky."""

    arm: str
    positions: NDArray[np.intp] | None = None
    keys: NDArray[np.uint64] | None = None


class Counting:
    """Counts of all arms since this process began. Not for several threads."""

    def __init__(self) -> None:
        self.epoch = secrets.randbits(63) + 1
        self.exposures = Exposures()
        self._arms: dict[ArmName, ArmCounter] = {}
        self._keys = KeySets()
        self._sequence = 0
        # The newest tick that the receiver has; 0: it may have none.
        self._received = 0

    def answered(
        self,
        pipeline: Pipeline,
        how: Counted,
        whose: Answered,
        request_ids: Sequence[str],
        answer: Batch,
        seconds: float,
    ) -> None:
        """An arm has answered its rows of a batch, `seconds` after they arrived. `request_ids`: of all rows of the batch."""
        name = ArmName(pipeline.name, how.release, whose.arm)
        counter = self._arms.get(name)
        if counter is None:
            counter = self._add(name, pipeline)
        counter.note(answer, seconds)
        if whose.keys is not None:
            bad = [row for row, error in answer.errors.items() if ours(error)]
            keys = whose.keys.tolist()
            self._keys.add(
                KeySetName(pipeline.name, how.salt, whose.arm), keys, [keys[row] for row in bad] if bad else []
            )
        if how.exposes:
            places = taken(places_in_requests(request_ids), whose.positions)
            self.exposures.note(name, answer, places, whose.keys, pipeline.outputs)

    def failed(self, pipeline: Pipeline, how: Counted, whose: Answered, rows: int, seconds: float) -> None:
        """An arm gave no answer at all for so many rows, as our own code failed."""
        name = ArmName(pipeline.name, how.release, whose.arm)
        counter = self._arms.get(name)
        if counter is None:
            counter = self._add(name, pipeline)
        counter.fail(rows, seconds)
        if whose.keys is not None:
            keys = whose.keys.tolist()
            self._keys.add(KeySetName(pipeline.name, how.salt, whose.arm), keys, keys)

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

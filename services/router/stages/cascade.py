"""`cascade` stages: the light model answers every row; the heavy one takes those that are unsure or valuable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError
from headrace.columns.column import Mask
from headrace.columns.column import join as joined
from headrace.hop.client.dial import Client
from headrace.hop.config import Settings
from headrace.hop.errors import Code
from headrace.pipeline import CascadeStage
from services.router import errors
from services.router.stages.model import ModelRunner, executes
from services.router.stages.parts import Answer, Limit, Part, models_used
from services.router.stages.runner import RunnerFactory, RunnerKind, StageResult, StageRunner

# What a heavy model may take of the time that is left to a row, so that the light answer still gets through the later stages.
_SHARE = 0.5
# Where the light model fails a row with these, asking the heavy one would not help, or make it worse.
_NO_USE = frozenset({Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INVALID_ARGUMENT})


class CascadeRunner:
    """A cascade stage. `light`, `heavy`: what runs its models. `clock`: monotonic seconds."""

    service = "router"  # only its models are the executor's
    # Its models' runners split rows by replica.
    by_replica = True

    def __init__(
        self, stage: CascadeStage, light: StageRunner, heavy: StageRunner, clock: Callable[[], float]
    ) -> None:
        self._stage = stage
        self._clock = clock
        budget = stage.budget_ms
        self._light = Part("light", light)
        self._heavy = Part("heavy", heavy, Limit(None if budget is None else budget / 1000, _SHARE))

    async def run(self, batch: Batch) -> StageResult:
        began, count = self._clock(), len(batch)
        light = await self._light.ask(batch, began, self._clock)
        lit = light.answered(count)
        chosen = self._chosen(batch, light, lit)
        sent = np.flatnonzero(chosen & self._has_time(batch))
        heavy = None
        if len(sent):
            part = batch if len(sent) == count else batch.take(sent)
            heavy = self._checked(light, await self._heavy.ask(part, began, self._clock), len(sent))
        return self._combined(light, lit, heavy, sent, chosen)

    def _chosen(self, batch: Batch, light: Answer, lit: Mask) -> Mask:
        """The rows that need the heavy model."""
        chosen = np.zeros(len(batch), bool)
        if light.columns:
            chosen = self._unsure(light)
        for name, least in self._stage.valuable.items():
            chosen |= self._valuable(batch.columns[name], least)
        chosen &= lit
        failed = [row for row, error in light.errors.items() if error.code not in _NO_USE]
        chosen[failed] = True
        return chosen

    def _unsure(self, light: Answer) -> Mask:
        unsure = self._stage.unsure
        scores = light.columns[unsure.score]
        least = 2 if unsure.decision is None else unsure.element + 1
        if not scores.dtype.is_float or scores.row_size < least:
            what = f"column {scores.name!r} has no margin: it is {scores.dtype.name.lower()}{list(scores.row_shape)}"
            raise errors.unusable_reply(self._stage.name, what)
        return unsure.rows(scores.array)

    def _valuable(self, column: Column, least: float) -> Mask:
        if column.dtype is DType.BYTES or column.row_shape:
            raise errors.unusable_reply(
                self._stage.name, f"column {column.name!r} is no number, so it has no value"
            )
        # A null holds 0 or anything; it is not valuable.
        found: Mask = (column.array >= least) & column.is_valid()
        return found

    def _has_time(self, batch: Batch) -> Mask:
        """The rows that have time enough for the heavy model."""
        needed = self._clock() + self._stage.least_ms / 1000
        return np.fromiter((d > needed for d in batch.rows.deadlines), bool, len(batch))

    def _checked(self, light: Answer, heavy: Answer, count: int) -> Answer:
        """The heavy model's answer; one that does not have the light one's types is a failure of it."""
        for name, column in light.columns.items():
            other = heavy.columns.get(name)
            if other is not None and (other.dtype, other.row_shape) != (column.dtype, column.row_shape):
                what = f"column {name!r} has another type than the light model's"
                error = RowError.of(errors.unusable_reply(self._stage.name, what))
                return Answer({}, dict.fromkeys(range(count), error), None, heavy.used, heavy.timings)
        return heavy

    def _combined(
        self, light: Answer, lit: Mask, heavy: Answer | None, sent: NDArray[np.intp], chosen: Mask
    ) -> StageResult:
        count, name = len(lit), self._stage.name
        taken = np.zeros(count, bool)
        if heavy is not None:
            taken[sent[heavy.answered(len(sent))]] = True
        fallbacks = {f"cascade/{name}:light": chosen & ~taken & lit, f"cascade/{name}:heavy": taken & ~lit}
        standby = _standby(light, heavy, sent, taken)
        if standby is not None:
            fallbacks[f"model/{name}:standby"] = standby
        ran = [a for a in (light, heavy) if a is not None and a.used is not None]
        both = [models_used(name, (lit, taken), count)] if len(ran) > 1 else []
        asked = {self._stage.light.model: count}
        if heavy is not None:
            asked[self._stage.heavy.model] = len(sent)
        return StageResult(
            _columns(light, heavy, sent, taken),
            both,
            {row: error for row, error in light.errors.items() if not taken[row]},
            {n: mask for n, mask in fallbacks.items() if mask.any()},
            timings=[t for a in (light, heavy) if a is not None for t in a.timings],
            models=[a.used for a in ran if a.used is not None],
            asked=asked,
            attributes={"heavy.rows": str(len(sent)), "heavy.taken": str(int(taken.sum()))},
        )


def _columns(light: Answer, heavy: Answer | None, sent: NDArray[np.intp], taken: Mask) -> list[Column]:
    """The light model's columns, with the rows that the heavy one took replaced."""
    if heavy is None or not heavy.columns:
        return list(light.columns.values())
    count = len(taken)
    position = np.zeros(count, np.intp)
    position[sent] = np.arange(len(sent))
    if not light.columns:
        # Rows that neither answered have errors, and any value.
        return [column.take(position) for column in heavy.columns.values()]
    source = np.where(taken, count + position, np.arange(count))
    return [joined([column, heavy.columns[name]]).take(source) for name, column in light.columns.items()]


def _standby(light: Answer, heavy: Answer | None, sent: NDArray[np.intp], taken: Mask) -> Mask | None:
    """The rows whose answer is that of a standby; None: none."""
    found = None
    if light.standby is not None:
        found = light.standby & ~taken
    if heavy is not None and heavy.standby is not None:
        mask = np.zeros(len(taken), bool)
        mask[sent] = heavy.standby
        found = mask & taken if found is None else found | (mask & taken)
    return found


def _connect(client: Client, settings: Settings, clock: Callable[[], float]) -> RunnerFactory:  # noqa: ARG001 - needs none
    needed, optional = executes(client)
    return lambda stage: CascadeRunner(
        stage, ModelRunner(stage.light, needed), ModelRunner(stage.heavy, optional), clock
    )


CASCADE = RunnerKind("cascade", "executor", _connect)

"""`ensemble` stages: several models answer each row; their answers become one, and those that are missing are named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, RowError
from headrace.columns.column import Mask
from headrace.hop.client.dial import Client
from headrace.hop.config import Settings
from headrace.hop.errors import BLAME, Blame, Code
from headrace.pipeline import EnsembleStage, Member
from services.router import errors
from services.router.routes.scatter import scatter
from services.router.stages.model import ModelRunner, executes
from services.router.stages.parts import Answer, Limit, Part, models_used
from services.router.stages.runner import RunnerFactory, RunnerKind, StageResult, StageRunner

# What an optional member may take of the time that is left to a row, so that the others' answer still gets through.
_OPTIONAL_SHARE = 0.5


class EnsembleRunner:
    """An ensemble stage. `runners`: of its members, by name. `clock`: monotonic seconds."""

    service = "router"  # only its models are the executor's
    # Its models' runners split rows by replica.
    by_replica = True

    def __init__(
        self, stage: EnsembleStage, runners: Mapping[str, StageRunner], clock: Callable[[], float]
    ) -> None:
        self._stage = stage
        self._clock = clock
        self._parts = {
            name: Part(name, runners[name], _limit(member)) for name, member in stage.members.items()
        }

    async def run(self, batch: Batch) -> StageResult:
        answers = await (self._all_at_once(batch) if self._stage.parallel else self._in_turn(batch))
        count = len(batch)
        present = np.stack([answer.answered(count) for answer in answers.values()])
        failed = self._failed(batch, answers, present)
        lost = list(failed)
        standby = np.zeros(count, bool)
        for answer in answers.values():
            if answer.standby is not None:
                standby |= answer.standby
        fallbacks = {f"model/{self._stage.name}:standby": standby}
        for name, mask in zip(answers, present, strict=True):
            fallbacks[f"ensemble/{self._stage.name}:{name}"] = ~mask
        for mask in fallbacks.values():
            mask[lost] = False
        ran = [i for i, answer in enumerate(answers.values()) if answer.used is not None]
        return StageResult(
            [self._combined(answers, present)] if len(failed) < count else [],
            [models_used(self._stage.name, present[ran], count)] if len(ran) > 1 else [],
            failed,
            {n: mask for n, mask in fallbacks.items() if mask.any()},
            timings=[t for answer in answers.values() for t in answer.timings],
            models=[answer.used for answer in answers.values() if answer.used is not None],
            asked={member.model.model: count for member in self._stage.members.values()},
        )

    async def _all_at_once(self, batch: Batch) -> dict[str, Answer]:
        began = self._clock()
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(part.ask(batch, began, self._clock))
                for name, part in self._parts.items()
            }
        return {name: task.result() for name, task in tasks.items()}

    async def _in_turn(self, batch: Batch) -> dict[str, Answer]:
        """One after the other; a row that a required member failed is not sent to those after it."""
        began, count = self._clock(), len(batch)
        answers: dict[str, Answer] = {}
        lost: dict[int, RowError] = {}
        for name, part in self._parts.items():
            live = np.array([row for row in range(count) if row not in lost], np.intp)
            if not len(live):
                answers[name] = Answer({}, dict(lost), None, None, [])
                continue
            answer = await part.ask(batch if not lost else batch.take(live), began, self._clock)
            answers[name] = _spread(answer, live, count, lost)
            if self._stage.members[name].required:
                lost |= answers[name].errors
        return answers

    def _failed(
        self, batch: Batch, answers: Mapping[str, Answer], present: NDArray[np.bool_]
    ) -> dict[int, RowError]:
        """The rows that lack a required member or the quorum, with what says so."""
        stage, names = self._stage, list(answers)
        found: dict[int, RowError] = {}
        for i, member in enumerate(stage.members.values()):
            if member.required:
                for row in np.flatnonzero(~present[i]).tolist():
                    cause = answers[names[i]].errors[row]
                    found.setdefault(row, self._member_failed(batch, row, names[i], cause))
        for row in np.flatnonzero(present.sum(axis=0) < stage.quorum).tolist():
            if row not in found:
                causes = {n: a.errors[row] for n, a in answers.items() if row in a.errors}
                found[row] = self._quorum_missed(batch, row, causes)
        return found

    def _member_failed(self, batch: Batch, row: int, member: str, cause: RowError) -> RowError:
        if self._others(batch, row, cause):
            return replace(cause, metadata={**cause.metadata, "member": member})
        return RowError.of(errors.member_failed(self._stage.name, member, cause))

    def _quorum_missed(self, batch: Batch, row: int, causes: Mapping[str, RowError]) -> RowError:
        for member, cause in causes.items():
            if self._others(batch, row, cause):
                return replace(cause, metadata={**cause.metadata, "member": member})
        stage = self._stage
        answered = len(stage.members) - len(causes)
        return RowError.of(errors.quorum_missed(stage.name, stage.quorum, answered, causes))

    def _others(self, batch: Batch, row: int, cause: RowError) -> bool:
        """Whether the caller is to blame, or the row's own time is over: then the error stays what it is."""
        if cause.code is Code.DEADLINE_EXCEEDED:
            return batch.rows.deadlines[row] <= self._clock()
        return BLAME.get(cause.reason) is Blame.CALLER

    def _combined(self, answers: Mapping[str, Answer], present: NDArray[np.bool_]) -> Column:
        """The column of all rows; of a row that failed, any value."""
        stage = self._stage
        columns = {n: a.columns[stage.into.column] for n, a in answers.items() if a.columns}
        like = next(iter(columns.values()))
        for name, column in columns.items():
            if (column.dtype, column.row_shape) != (like.dtype, like.row_shape):
                what = f"member {name!r} gives {column.dtype.name.lower()}{list(column.row_shape)}, unlike the others"
                raise errors.unusable_reply(stage.name, what)
        if like.dtype.is_float is (stage.combine == "vote"):
            raise errors.unusable_reply(
                stage.name, f"a {stage.combine} can't be taken of {like.dtype.name.lower()}"
            )
        at = [i for i, name in enumerate(answers) if name in columns]
        weights = np.array([stage.members[name].weight for name in columns])
        values = np.stack([column.array for column in columns.values()])
        combine = votes if stage.combine == "vote" else weighted_mean
        return Column.of(like.name, combine(values, present[at], weights).astype(like.dtype.numpy))


def weighted_mean(
    values: NDArray[np.generic], present: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64 (rows, …): the mean of the members that are present, whose weights are made to add up to 1 in each row.

    `values`: (members, rows, …); `present`: (members, rows); `weights`: (members,). A row without members gets 0.
    """
    shares = weights[:, None] * present
    total = shares.sum(axis=0)
    shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    wide = shares.reshape(shares.shape + (1,) * (values.ndim - 2))
    # What is absent may be anything, also no number.
    held = np.where(wide > 0, values.astype(np.float64), 0.0)
    return np.asarray((wide * held).sum(axis=0))


def votes(
    values: NDArray[np.generic], present: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.generic]:
    """(rows,): the value with the greatest weight of members behind it; of several, that of the first such member.

    Shapes as in `weighted_mean`, one value per row.
    """
    shares = weights[:, None] * present
    behind = np.stack([(shares * (values == mine)).sum(axis=0) for mine in values])
    best = np.where(present, behind, -1.0).argmax(axis=0)
    return np.asarray(values[best, np.arange(values.shape[1])])


def _limit(member: Member) -> Limit | None:
    if member.budget_ms is None and member.required:
        return None
    budget_s = None if member.budget_ms is None else member.budget_ms / 1000
    return Limit(budget_s, 1.0 if member.required else _OPTIONAL_SHARE)


def _spread(answer: Answer, live: NDArray[np.intp], count: int, lost: Mapping[int, RowError]) -> Answer:
    """An answer of the rows `live` as one of all rows; `lost`: why the others failed before."""
    if len(live) == count:
        return answer
    failed = {int(live[position]): error for position, error in answer.errors.items()}
    columns = {name: scatter(column, live, count) for name, column in answer.columns.items()}
    standby: Mask | None = None
    if answer.standby is not None:
        standby = np.zeros(count, bool)
        standby[live] = answer.standby
    return Answer(columns, {**lost, **failed}, standby, answer.used, answer.timings)


def _connect(client: Client, settings: Settings, clock: Callable[[], float]) -> RunnerFactory:  # noqa: ARG001 - needs none
    needed, optional = executes(client)

    def runner(stage: EnsembleStage) -> EnsembleRunner:
        models = {
            name: ModelRunner(member.model, needed if member.required else optional)
            for name, member in stage.members.items()
        }
        return EnsembleRunner(stage, models, clock)

    return runner


ENSEMBLE = RunnerKind("ensemble", "executor", _connect)

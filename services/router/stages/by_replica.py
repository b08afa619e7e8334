"""Splits a stage's rows by the replica that each should go to, and joins the results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column
from headrace.columns.batch import RowError
from headrace.columns.column import Mask, join
from headrace.hop.errors import Fault
from headrace.pipeline import ModelUse
from services.router.routes.scatter import scatter
from services.router.stages.runner import StageResult, StageRunner

REPLICA = "@replica"
"""int32 (rows,): index of the replica that a row should go to; −1: any. Only runners that are `by_replica` are given it."""
ANYWHERE = -1

RunPart: TypeAlias = Callable[[Batch, int | None], Awaitable[StageResult]]


def is_by_replica(runner: StageRunner) -> bool:
    """Whether the runner takes the column `@replica` among those that it reads."""
    found: bool = getattr(runner, "by_replica", False)
    return found


async def run_by_replica(batch: Batch, run: RunPart) -> StageResult:
    """Runs the rows of each replica apart and at the same time. A part that fails as a whole fails its rows alone.

    `batch`: with the column `@replica`. `run`: takes rows, and the index of the replica that they should go to (None: any).
    Raises Fault if all rows are of one replica and it failed.
    """
    wanted = batch.columns[REPLICA].array
    replicas = sorted(set(wanted.tolist()))
    if len(replicas) == 1:
        return await run(batch, _preferred(replicas[0]))
    places = [np.flatnonzero(wanted == replica) for replica in replicas]
    parts = zip(replicas, places, strict=True)
    results = await asyncio.gather(*(_part(batch.take(at), _preferred(r), run) for r, at in parts))
    return _joined(results, places, len(batch))


def _preferred(replica: int) -> int | None:
    return None if replica == ANYWHERE else replica


async def _part(batch: Batch, replica: int | None, run: RunPart) -> StageResult:
    try:
        return await run(batch, replica)
    except Fault as fault:
        return StageResult(errors=dict.fromkeys(range(len(batch)), RowError.of(fault)))


def _joined(results: Sequence[StageResult], places: Sequence[NDArray[np.intp]], count: int) -> StageResult:
    """One result of all rows; `places[i]` are the positions of the rows of `results[i]`."""
    pairs = list(zip(results, places, strict=True))
    fallbacks: dict[str, Mask] = {}
    for result, at in pairs:
        for name, used in result.fallbacks.items():
            fallbacks.setdefault(name, np.zeros(count, bool))[at] = used
    # What is unusual about one of them must not be hidden by another.
    told = max((r for r in results if r.models), key=lambda r: _unusual(r.models), default=StageResult())
    return StageResult(
        _columns([(r.columns, at) for r, at in pairs], count),
        errors={int(at[row]): error for r, at in pairs for row, error in r.errors.items()},
        fallbacks=fallbacks,
        timings=[timing for r in results for timing in r.timings],
        models=told.models,
        attributes=told.attributes,
    )


def _unusual(models: Sequence[ModelUse]) -> tuple[int, int]:
    return sum(m.standby for m in models), sum(m.cold_start for m in models)


def _columns(parts: Iterable[tuple[Sequence[Column], NDArray[np.intp]]], count: int) -> list[Column]:
    # A part in which every row failed has no columns.
    there = [(columns, at) for columns, at in parts if columns]
    if not there:
        return []
    places = np.concatenate([at for _, at in there])
    order = np.argsort(places, kind="stable")
    columns = [join(list(same)).take(order) for same in zip(*(columns for columns, _ in there), strict=True)]
    if len(places) == count:
        return columns
    rows = places[order]
    return [scatter(column, rows, count) for column in columns]

"""A model of a stage of several models, and what such a stage gave, in short."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, RowError, Timing
from headrace.hop.errors import Fault
from headrace.pipeline import ModelUse
from services.router.stages.runner import StageResult


@dataclass
class Model:
    """Answers `of` x in column p; rows with x in `fails` fail. `fault`: what the whole call raises. `hold`: it waits for that;
    `on_call`: is called first. `sizes`: rows of each call; `deadlines`: of the last one."""

    name: str
    of: Callable[[NDArray[Any]], NDArray[Any]]
    fails: Mapping[float, RowError] = field(default_factory=dict)
    fault: Fault | None = None
    standby: bool = False
    dtype: type[np.generic] = np.float32
    hold: asyncio.Event | None = None
    on_call: Callable[[], None] = lambda: None
    sizes: list[int] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    service = "executor"

    async def run(self, batch: Batch) -> StageResult:
        self.sizes.append(len(batch))
        self.deadlines = batch.rows.deadlines
        self.on_call()
        if self.hold is not None:
            await self.hold.wait()
        if self.fault is not None:
            raise self.fault
        x = batch.columns["x"].array
        errors = {row: self.fails[value] for row, value in enumerate(x.tolist()) if value in self.fails}
        ok = ~np.isin(np.arange(len(batch)), list(errors))
        return StageResult(
            [Column.of("p", self.of(x).astype(self.dtype))] if ok.any() else [],
            errors=errors,
            fallbacks={"model/score:standby": ok} if self.standby else {},
            timings=[Timing("run", "executor", 1, 2, len(batch))],
            models=[ModelUse("score", self.name, "1", "ff")],
        )


def values(result: StageResult) -> list[float]:
    [column] = result.columns
    return [round(v, 4) for v in column.array.tolist()]


def masks(result: StageResult) -> dict[str, list[bool]]:
    return {name: mask.tolist() for name, mask in result.fallbacks.items()}

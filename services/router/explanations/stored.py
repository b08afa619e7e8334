"""The task that explains stored predictions: it asks monitoring which lack an explanation, and explains them below live calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from headrace.columns import Batch, Column
from headrace.explanations import MOST_ROUNDS, ExplanationError
from headrace.hop.errors import Fault
from headrace.pipeline import explainable_columns
from services.router.explanations.explainer import Explainer
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.pieces import Row
from services.router.explanations.subject import Subject, Subjects
from services.router.pipelines import Pipelines

# How soon it asks again when all that can be explained is, or monitoring does not say.
_IDLE_S = 2.0
# Predictions that are explained together. So many get one round each, fewer more.
_TOGETHER = MOST_ROUNDS


@dataclass(frozen=True, slots=True)
class Predictions:
    """Stored predictions of one revision. `ids`: of each row; columns of `batch` lack the dimensions of a row."""

    pipeline: str
    revision: str
    ids: Sequence[bytes]
    batch: Batch


# The subjects whose predictions must be explained → some that are not. Raises Fault.
Source: TypeAlias = Callable[[Sequence[Subject]], Awaitable[Sequence[Predictions]]]


class StoredPredictions:
    """Nothing of it waits in this process but what monitoring gave last."""

    def __init__(
        self,
        source: Source,
        pipelines: Pipelines,
        subjects: Subjects,
        explainer: Explainer,
        metrics: ExplanationMetrics,
        log: Any,
    ) -> None:
        self._source = source
        self._pipelines = pipelines
        self._subjects = subjects
        self._explainer = explainer
        self._metrics = metrics
        self._log = log
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not await self._round():
                await asyncio.sleep(_IDLE_S)

    async def _round(self) -> bool:
        """Whether there were predictions to explain."""
        try:
            subjects = await self._demanded()
            found = await self._source(list(subjects.values())) if subjects else ()
        except Fault:
            return False  # the reports of facts say that monitoring is away
        for predictions in found:
            subject = subjects.get((predictions.pipeline, predictions.revision))
            if subject is not None:
                rows = rows_of(predictions, subject)
                size = _TOGETHER if subject.pixels is None else 1
                for start in range(0, len(rows), size):
                    await self._explain(subject, rows[start : start + size])
        return bool(found)

    async def _demanded(self) -> Mapping[tuple[str, str], Subject]:
        """By pipeline and revision."""
        found: dict[tuple[str, str], Subject] = {}
        for served in self._pipelines.list():
            for route in served.routes:
                pipeline = route.plan.pipeline
                if pipeline.explanations is not None and pipeline.explanations.coverage:
                    try:
                        found[pipeline.name, pipeline.revision] = await self._subjects.of(route)
                    except ExplanationError as error:
                        self._fails(pipeline.name, error)
        return found

    async def _explain(self, subject: Subject, rows: Sequence[Row]) -> None:
        name = subject.pipeline.name
        try:
            await self._explainer.explain(subject, rows)
        except Exception as error:  # noqa: BLE001 - the task must go on with the next ones
            if len(rows) == 1:
                self._fails(name, error)
                return
            # Perhaps one alone is the reason.
            half = len(rows) // 2
            await self._explain(subject, rows[:half])
            await self._explain(subject, rows[half:])
        else:
            self._metrics.predictions(name, "explained", len(rows))

    def _fails(self, pipeline: str, error: Exception) -> None:
        """Counts it; the log has each cause of a pipeline once."""
        cause = error.cause if isinstance(error, ExplanationError) else "failed"
        self._metrics.predictions(pipeline, cause)
        if (pipeline, cause) not in self._told:
            self._told.add((pipeline, cause))
            said = isinstance(error, (ExplanationError, Fault))
            told = str(error) if said else f"{type(error).__name__}: {error}"
            self._log.warning("predictions can't be explained", pipeline=pipeline, cause=cause, error=told)


def rows_of(predictions: Predictions, subject: Subject) -> list[Row]:
    """The rows with what the subject reads of them, in the shapes that the pipeline declares."""
    types, rows = explainable_columns(subject.pipeline), predictions.batch.rows
    columns = {
        name: Column(name, c.dtype, _shaped(c, types[name].row_shape), types[name].row_shape, c.valid)
        for name, c in predictions.batch.columns.items()
        if name in types
    }
    return [
        Row(
            {name: column.take(np.array([i])) for name, column in columns.items()},
            rows.request_ids[i],
            rows.tenants[i],
            identity,
        )
        for i, identity in enumerate(predictions.ids)
    ]


def _shaped(column: Column, row_shape: tuple[int, ...]) -> Any:
    return column.values.reshape(-1, *row_shape) if isinstance(column.values, np.ndarray) else column.values

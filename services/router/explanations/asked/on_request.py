"""Explanations that somebody asks for: of the live revision of a pipeline, or of the one that answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from headrace.columns import Batch, Column
from headrace.explanations import ExplanationError, one_row
from headrace.pipeline import ColumnType, InputField, explainable_columns
from services.router import errors
from services.router.explanations.explainer import Explainer
from services.router.explanations.pieces import Explained, Row
from services.router.explanations.subject import BackgroundRoute, Subject, Subjects, with_runners
from services.router.explanations.turns import Entry
from services.router.pipelines import Pipelines, Served
from services.router.ports import Meter
from services.router.routes.route import Route
from services.router.routes.run import RouteRun
from services.router.shadow.run import PRIORITY, Turned

MOST_ROWS = 8


class OnRequest:
    """`background`: makes the route of a run that is no live one. `clock`: monotonic seconds."""

    def __init__(
        self,
        pipelines: Pipelines,
        subjects: Subjects,
        explainer: Explainer,
        background: BackgroundRoute,
        clock: Callable[[], float],
    ) -> None:
        self._pipelines = pipelines
        self._subjects = subjects
        self._explainer = explainer
        self._background = background
        self._clock = clock

    def types(self, pipeline: str, revision: str) -> Mapping[str, ColumnType]:
        """Inputs and feature columns of a pipeline. Raises Fault as `explain`."""
        try:
            route = _route(self._pipelines.find(pipeline, 0), revision)
        except ExplanationError as error:
            raise errors.not_explainable(pipeline, error) from None
        return explainable_columns(route.plan.pipeline)

    async def explain(
        self, pipeline: str, revision: str, output: str, batch: Batch, seeds: Sequence[bytes] = ()
    ) -> list[Explained]:
        """Explains rows. `revision` "": the live one. Columns of features that the batch lacks are read now.

        Raises Fault NOT_FOUND for an unknown pipeline, FAILED_PRECONDITION NOT_EXPLAINABLE, INVALID_ARGUMENT for a batch that
        lacks an input, is too large or has a column of another type, RESOURCE_EXHAUSTED if too many wait.
        """
        count = len(batch)
        if not 0 < count <= MOST_ROWS:
            raise errors.too_many_to_explain(count, MOST_ROWS)
        served = self._pipelines.find(pipeline, 0)
        try:
            route = _route(served, revision)
            subject = await self._subjects.of(route, output)
            with self._explainer.entered(batch.rows.tenants[0], count) as entry:
                columns = await self._columns(route, subject, batch, entry)
                rows = [
                    Row(
                        {name: columns[name].take(np.array([i])) for name in subject.reads},
                        batch.rows.request_ids[i],
                        batch.rows.tenants[i],
                        seeds[i] if i < len(seeds) else f"{batch.rows.request_ids[i]}/{i}".encode(),
                    )
                    for i in range(count)
                ]
                return await self._explainer.ask(subject, rows, entry)
        except ExplanationError as error:
            raise errors.not_explainable(pipeline, error) from None

    async def _columns(
        self, route: Route, subject: Subject, batch: Batch, entry: Entry
    ) -> Mapping[str, Column]:
        """The players' columns: those of the batch, or all stages are run for them, in turns as the pieces of explanations."""
        types = explainable_columns(subject.pipeline)
        for name, column in batch.columns.items():
            kind = types.get(name)
            if kind is not None and (column.dtype is not kind.dtype or column.row_shape != kind.row_shape):
                raise errors.input_missing(subject.pipeline.name, name)
        if all(name in batch.columns for name in subject.reads):
            return batch.columns
        deadline_s = subject.pipeline.deadline_ms / 1000
        rows = replace(batch.rows, priorities=[PRIORITY] * len(batch))
        inputs = [c for f in subject.pipeline.inputs if (c := _input(batch, f)) is not None]
        async with self._explainer.turn(entry) as turn:
            background = with_runners(
                self._background(route.name, subject.pipeline),
                lambda runner: Turned(runner, turn, deadline_s),
            )
            run = RouteRun(background, Batch.of(rows, inputs), self._clock, Meter())
            await run.run()
        for error in run.errors.values():
            raise error.fault()
        return run.columns


def _input(batch: Batch, field: InputField) -> Column | None:
    """The column of an input; its default or nulls if the batch lacks it and may; None: it may not."""
    if field.name in batch.columns:
        return batch.columns[field.name]
    if field.required:
        return None
    return one_row(field.name, field.type, field.default).take(np.zeros(len(batch), np.intp))


def _route(served: Served, revision: str) -> Route:
    """The route of a revision. Raises ExplanationError if it is not served any more."""
    if not revision:
        return served.routes[0]
    for route in served.routes:
        if route.plan.pipeline.revision == revision:
            return route
    raise ExplanationError(
        "revision",
        f"the revision {revision[:12]} of pipeline {served.pipeline.name} does not serve any more",
        "make a release that names it, or explain the inputs by the live one",
    )

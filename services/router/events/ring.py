"""The ring: what was answered and waits to be told. The request path only appends to it; what does not fit is dropped.

Each row has a number, also one that is dropped: so the receiver sees what is missing even if this process is killed.

Kept of an answered batch are references to values of columns, chosen so that nothing large stays. Columns are never changed after
they are made, so a reference is as good as a copy, and takes a tenth of the time. Only arrays are kept of most of them: the
garbage collector does not look at arrays.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import filterfalse, repeat
from operator import attrgetter, is_not
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError, Rows, Timing
from headrace.events import DRAWN
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import REGULATED, ColumnType, ModelUse, Pipeline, kind_of
from services.router.events.metrics import EventMetrics
from services.router.facts.queue import MESSAGE_BYTES, Lane, Queue
from services.router.pipelines import Served
from services.router.routes.assignment import values_of
from services.router.routes.observer import Ended
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.ticks.counters import Part

Stored: TypeAlias = NDArray[Any] | Column
# What a row takes besides its columns: ids and what Python keeps of them.
_ROW_BYTES = 300
_VALUES, _VALID = attrgetter("values"), attrgetter("valid")
# Routes whose columns are known; each new release has new ones.
_MAX_ROUTES = 256


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of a route's batches. `fixed`: names of columns of known width, `row_bytes` together; `ragged`:
    those of byte strings; `omitted`: columns that are too large by their type. `private`: names of inputs with personal data.
    `fallbacks`: those that batches had so far; the position of each is its bit in events, and stays."""

    pipeline: Pipeline
    arm: str
    fixed: tuple[str, ...]
    ragged: tuple[str, ...]
    omitted: tuple[str, ...]
    inputs: tuple[str, ...]
    features: tuple[str, ...]
    outputs: tuple[str, ...]
    private: frozenset[str]
    row_bytes: int
    fallbacks: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, route: Route, max_value_bytes: int) -> Recorded:
        """Of a route. Columns with more bytes a row than that are left out."""
        pipeline = route.plan.pipeline
        inputs = tuple(f.name for f in pipeline.inputs)
        features = tuple(n for p in route.plan.stages if kind_of(p.stage).varies for n in p.writes)
        outputs = tuple(o.name for o in pipeline.outputs)
        types: dict[str, ColumnType | None] = {f.name: f.type for f in pipeline.inputs}
        for planned in route.plan.stages:
            types.update(planned.writes)
        fixed, ragged, omitted, row_bytes = [], [], [], _ROW_BYTES
        for name in dict.fromkeys((*inputs, *features, *outputs)):
            kind = types.get(name)
            if kind is None or kind.dtype is DType.BYTES:
                ragged.append(name)
                continue
            size = kind.dtype.numpy.itemsize
            for dimension in kind.row_shape:
                size *= dimension
            if size > max_value_bytes:
                omitted.append(name)
            else:
                fixed.append(name)
                row_bytes += size
        private = frozenset(f.name for f in pipeline.inputs if f.pii)
        return cls(
            pipeline,
            route.name,
            tuple(fixed),
            tuple(ragged),
            tuple(omitted),
            inputs,
            features,
            outputs,
            private,
            row_bytes,
        )


class Standing(NamedTuple):
    """Why an arm answered. `release`: number, 0 = none; `by`: the column whose value decides which arm a row gets; None: nothing
    does. `by_outcomes`: they compare arms. `shadow_of`: the arm beside which it ran as a shadow; "": it answered itself."""

    release: int = 0
    experiment: str = ""
    by: str | None = None
    by_outcomes: bool = False
    shadow_of: str = ""

    @classmethod
    def of(cls, served: Served) -> Standing:
        """Of an arm that answers."""
        release, counted = served.source.release if served.source is not None else None, served.counted
        number, experiment = (release.number, release.experiment) if release is not None else (0, None)
        return cls(number, experiment.name if experiment else "", counted.by, counted.by_outcomes)


# Not frozen: creating it would take three times as long.
@dataclass(slots=True, eq=False)
class AnsweredBatch:
    """An answered batch that waits to be told. `names`, `values`: of the columns that are recorded, and of annotations: an array
    of declared width of which each row has a value, else the column. `whole`: the rows of the message of which these are those at
    `positions` (None: all). `key`: what decides which arm a row gets; None: nothing does. `first`: number of its first row in
    the stream `epoch`. `time_us`: when it was answered, since 1970."""

    recorded: Recorded
    why: Standing
    rows: Rows
    names: tuple[str, ...]
    values: list[Stored]
    omitted: tuple[str, ...]
    errors: Mapping[int, RowError]
    timings: Sequence[Timing]
    fallbacks: list[str]
    models: list[ModelUse]
    whole: Rows
    positions: NDArray[np.intp] | None
    key: Column | None
    epoch: int
    first: int
    time_us: int
    latency_us: int
    size: int

    def __len__(self) -> int:
        return len(self.rows.request_ids)


def chosen_columns(
    recorded: Recorded, result: RouteResult, count: int, max_value_bytes: int
) -> tuple[list[str], list[Stored], tuple[str, ...], int]:
    """What is kept of columns, by name; the names of those that are too large, and bytes."""
    found, answered, omitted = result.columns, result.batch.columns, recorded.omitted
    # Without loops in Python, as there are dozens. What an answer has besides outputs are annotations: numbers.
    fixed = [*filter(found.__contains__, recorded.fixed)]
    annotations = [*filterfalse(recorded.outputs.__contains__, answered)]
    columns = [*map(found.__getitem__, fixed), *map(answered.__getitem__, annotations)]
    names, values = fixed + annotations, [*map(_VALUES, columns)]
    if any(map(is_not, map(_VALID, columns), repeat(None))):
        values = [column.values if column.valid is None else column for column in columns]
    size = (recorded.row_bytes + 8 * len(annotations)) * count
    for name in filter(found.__contains__, recorded.ragged):
        column = found[name]
        taken = column.values.nbytes
        if taken > max_value_bytes * count:
            omitted = (*omitted, name)
            continue
        names.append(name)
        values.append(column)
        size += taken
    return names, values, omitted, size


def _key(batch: Batch, by: str) -> Column | None:
    """What decides which arm a row gets, as a column; it may be a signal such as the tenant."""
    if (column := batch.columns.get(by)) is not None:
        return column
    found = values_of(batch, by)
    return None if found is None else Column.of_text(by, [*map(str, found)])


def raised(route: Route, batch: Batch, error: BaseException) -> RouteResult:
    """What is noted of a run that gave no answer: its inputs, as far as they are such, and for each row what it raised."""
    known = error if isinstance(error, Fault) else Fault(Code.INTERNAL, Reason.REASON_INTERNAL, "unexpected")
    columns = {
        f.name: column
        for f in route.plan.pipeline.inputs
        if (column := batch.columns.get(f.name)) is not None
        and (column.dtype, column.row_shape) == (f.dtype, f.row_shape)
    }
    failed = Batch(batch.rows, {}, dict.fromkeys(range(len(batch)), RowError.of(known)))
    return RouteResult(failed, [], [], columns)


def is_regulated(served: Served, route: Route, batch: Batch) -> bool:
    """Whether events must be on the disk before the answer: the pipeline (live, or that of the arm) or the tenant is regulated.

    The door marks the rows of such tenants. Rows with and without the mark are never in one batch, as batches of different
    columns are not joined.
    """
    return served.pipeline.regulated or route.plan.pipeline.regulated or REGULATED in batch.columns


class Notes:
    """Makes an `AnsweredBatch` of each batch, and numbers its rows. `wall`: seconds since 1970."""

    def __init__(self, max_value_bytes: int, wall: Callable[[], float]) -> None:
        self.epoch = secrets.randbits(63) + 1
        # Rows so far.
        self.noted = 0
        self._max_value_bytes = max_value_bytes
        self._wall = wall
        self._routes: dict[Route, Recorded] = {}

    def number(self, rows: int) -> int:
        """Takes numbers for so many rows; returns the first."""
        first = self.noted + 1
        self.noted += rows
        return first

    def make(
        self,
        why: Standing,
        route: Route,
        part: Part,
        result: RouteResult,
        count: int,
        seconds: float,
        first: int,
    ) -> AnsweredBatch:
        """What is kept of an answer of `count` rows that took `seconds`; they have the numbers from `first` on."""
        recorded = self._routes.get(route)
        if recorded is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            recorded = self._routes[route] = Recorded.of(route, self._max_value_bytes)
        batch = result.batch
        names, values, omitted, size = chosen_columns(recorded, result, count, self._max_value_bytes)
        if why.by_outcomes:
            names.append(DRAWN)
            values.append(np.ones(count, bool) if part.by_rule is None else ~part.by_rule)
        return AnsweredBatch(
            recorded,
            why,
            batch.rows,
            tuple(names),
            values,
            omitted,
            batch.errors,
            batch.timings,
            result.fallbacks,
            result.models,
            # Not computed here, but when they are told.
            part.whole.rows if part.positions is not None else batch.rows,
            part.positions,
            None if why.by is None else _key(part.batch, why.by),
            self.epoch,
            first,
            int(self._wall() * 1e6),
            int(seconds * 1e6),
            size,
        )


class Ring(Lane[AnsweredBatch]):
    """An observer of live runs (`routes.observer.RunObserver`): notes those that are not regulated. `clock`: monotonic s."""

    def __init__(
        self,
        queue: Queue,
        message_rows: int,
        notes: Notes,
        metrics: EventMetrics,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        super().__init__(queue, message_rows, partial(metrics.dropped, "full"))
        self.notes = notes
        self._metrics = metrics
        self._clock = clock
        self._log = log

    def begin(self, served: Served, route: Route, part: Part, began: float) -> Ended:
        """A live run begins; what is returned must be called when it ends. Neither raises."""
        # What is regulated is committed before it is answered.
        regulated = is_regulated(served, route, part.batch)

        def ended(result: RouteResult | BaseException) -> None:
            # No answer leaves, and nobody waits for one.
            if regulated or isinstance(result, asyncio.CancelledError):
                return
            try:
                known = result if isinstance(result, RouteResult) else raised(route, part.batch, result)
                self.note(Standing.of(served), route, part, known, self._clock() - began)
            except Exception as error:  # noqa: BLE001 - nothing of the events may fail a live call
                self._metrics.dropped("error", len(part.batch))
                self._log.error("a batch was not noted", error=f"{type(error).__name__}: {error}")

        return ended

    def note(self, why: Standing, route: Route, part: Part, result: RouteResult, seconds: float) -> None:
        """Keeps an answer that took `seconds`, or drops and counts it."""
        count, queue = len(result.batch.rows.request_ids), self.queue
        first = self.notes.number(count)
        if queue.left <= 0:
            self.lost(count)
            return
        noted = self.notes.make(why, route, part, result, count, seconds, first)
        size = noted.size
        # As `append`, without its call: this is the way of each request.
        if size > queue.left and self.waiting:
            self.lost(count)
            return
        self.waiting.append((noted, count, size))
        self.rows += count
        self.bytes += size
        queue.left -= size
        if len(self.waiting) == 1:
            queue.came.set()
        if self.rows >= self.message_rows or self.bytes >= MESSAGE_BYTES:
            queue.full.set()

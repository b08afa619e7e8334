"""One version of a model that is ready to run: from columns of calls to tensors of its runs and back, and a run in which bad
rows fail alone. All work is per column, never per value (except texts)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.columns import ANNOTATION, Batch, Column, DType, RowError
from headrace.repository import Artifact, Metadata, TensorSpec
from services.executor import errors
from services.executor.backends.backend import (
    Array,
    BackendError,
    BackendLateError,
    BackendLostError,
    Tensors,
)
from services.executor.config import ModelSettings
from services.executor.failover.group import FailoverGroup, Member
from services.executor.scheduling.scheduler import Limits

# Starting a run takes a few tenths of a millisecond: less than a tenth of a run of this length.
_AHEAD_S = 0.005
# Finds one bad row among n in 2·log2(n) further runs, and shows that a model fails on everything.
FEW_FURTHER_RUNS = 16
# After so many rows without a good one among them, the model is broken, and not the rows.
_BARREN_ROWS = 64


PartialOutput = tuple[list[int], Tensors]
"""Row positions of a call, and the outputs of one run for these rows in that order."""


@dataclass(frozen=True, slots=True)
class Model:
    """`artifact`: the verified bytes; a later activation uses the same bytes.

    `measured`: by how many bytes a process grew when it loaded and warmed up the model; 0 if not measured.
    """

    artifact: Artifact
    settings: ModelSettings
    group: FailoverGroup
    measured: int = 0

    @property
    def metadata(self) -> Metadata:
        return self.artifact.metadata

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that it takes: as measured, but at least what its backends report."""
        return max(
            self.measured, sum(m.backend.capabilities.memory_bytes for m in self.group.members if m.active)
        )

    def limits(self) -> Limits:
        """Limits of queue and runs with the backend that runs it now."""
        settings, able = self.settings, self.group.active.backend.capabilities
        return Limits(
            max_rows=min(settings.max_rows, able.max_rows or settings.max_rows),
            max_queue_rows=settings.max_queue_rows,
            instances=settings.instances if able.concurrent_runs else 1,
            max_delay=settings.max_delay_us / 1e6,
            max_bytes=settings.max_bytes,
            buckets=able.buckets,
            lane_priority=settings.lane.priority if settings.lane else None,
            lane_rows=settings.lane.rows if settings.lane else 0,
            lane_instances=settings.lane.instances if settings.lane else 0,
            ahead=_AHEAD_S,
        )

    def run(self, inputs: Tensors, deadline: float) -> tuple[Tensors, Member]:
        """The declared outputs, and the backend that made them. Blocks. `deadline`: monotonic seconds.

        Raises what `FailoverGroup.run` raises, and BackendError for an output of a wrong shape.
        """
        rows = len(next(iter(inputs.values())))
        outputs, member = self.group.run(inputs, deadline)
        check_shapes(self.metadata, outputs, rows)
        return outputs, member


def check_shapes(about: Metadata, outputs: Tensors, rows: int) -> None:
    """Raises BackendError if an output does not have the declared shape."""
    for spec in about.outputs:
        found = outputs[spec.name].shape
        if found != (rows, *spec.row_shape):
            raise BackendError(f"output {spec} of {rows} rows came back with shape {list(found)}")


def read_inputs(specs: Sequence[TensorSpec], batch: Batch) -> tuple[Tensors, dict[int, RowError]]:
    """The tensors of a batch, each of shape (rows, *row_shape), and by row position why the row can't run. Fixed-width types
    share the batch's memory.

    Raises Fault INVALID_ARGUMENT; it names an input that is missing, unknown, or of a wrong type or shape.
    """
    columns, found = batch.columns, dict(batch.errors)
    tensors = {}
    for spec in specs:
        column = columns.get(spec.name)
        if column is None:
            raise errors.input_missing(spec.name)
        tensors[spec.name] = _tensor(spec, column)
        if column.valid is not None and not column.valid.all():
            null = errors.input_null(spec.name)
            for row in np.flatnonzero(~column.valid).tolist():
                found.setdefault(row, null)
    if len(columns) > len(tensors):
        for name in columns:
            if name not in tensors and not name.startswith(ANNOTATION):
                raise errors.input_unknown(name, tensors)
    return tensors, found


def _tensor(spec: TensorSpec, column: Column) -> Array:
    if column.dtype is not spec.dtype:
        raise errors.input_dtype(spec, column.dtype.name.lower())
    if column.row_shape != spec.row_shape:
        raise errors.input_shape(spec, column.row_shape)
    if column.dtype is not DType.BYTES:
        return column.array
    texts = np.empty(len(column) * column.row_size, object)
    texts[:] = [item.decode(errors="replace") for item in column.ragged.to_list()]
    return texts.reshape(len(column), *spec.row_shape)


def select_rows(tensors: Tensors, rows: list[int], row_count: int) -> Tensors:
    """Some rows of a call that has `row_count` rows. `rows` are ascending; contiguous ones give a view, not a copy."""
    if len(rows) == row_count:
        return tensors
    first, last = rows[0], rows[-1]
    if last - first + 1 == len(rows):
        return {name: array[first : last + 1] for name, array in tensors.items()}
    return {name: array[rows] for name, array in tensors.items()}


def stack_rows(parts: Sequence[Tensors]) -> Tensors:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def output_columns(
    specs: Sequence[TensorSpec], parts: Sequence[PartialOutput], row_count: int
) -> dict[str, Column]:
    """By name, the output columns of a call from the results of its runs; 0 or empty text for rows without a result."""
    if len(parts) == 1 and len(parts[0][0]) == row_count:
        tensors = parts[0][1]
        return {spec.name: _column(spec, tensors[spec.name]) for spec in specs}
    columns = {}
    for spec in specs:
        text = spec.dtype is DType.BYTES
        values = np.full(
            (row_count, *spec.row_shape), "" if text else 0, object if text else spec.dtype.numpy
        )
        for rows, tensors in parts:
            values[rows] = tensors[spec.name]
        columns[spec.name] = _column(spec, values)
    return columns


def _column(spec: TensorSpec, values: Array) -> Column:
    if spec.dtype is not DType.BYTES:
        return Column.of(spec.name, values)
    items = [item if isinstance(item, bytes) else str(item).encode() for item in values.ravel().tolist()]
    return Column.of_bytes(spec.name, items, spec.row_shape)


class FurtherRuns:
    """How many further runs a failed one may take to find its bad rows.

    All that it needs, since good rows of other requests must not fail with bad ones; but few while nothing succeeds: a broken
    model would take twice as many runs as it gets rows, and the CPU from the models that work.
    """

    def __init__(self) -> None:
        self._barren = 0

    @property
    def hopeless(self) -> bool:
        return self._barren >= _BARREN_ROWS

    def allowed(self, rows: int) -> int:
        """For a run of `rows` on a thread; on the event loop, where all others wait for it, there are few."""
        # A binary tree with a leaf for each row has fewer nodes than that.
        return FEW_FURTHER_RUNS if self.hopeless else 2 * rows

    def learn(self, rows: int, ran: Array | None) -> None:
        """A run of `rows` ended. `ran`: which rows succeeded (bool (rows,)); None: all."""
        # Several threads may do this at once: a count that is lost does no harm.
        self._barren = 0 if ran is None or ran.any() else self._barren + rows


@dataclass(slots=True, eq=False)
class RunOutcome:
    """`outputs`: of the rows that succeeded, in order. `ran`: which rows did (bool (rows,)); None: all.

    `undecided`: rows count as failed, but it is not known whether they are bad: more further runs would tell.
    """

    outputs: Tensors
    ran: Array | None = None
    # The engine's first error, for the log; None: there was none.
    error: Exception | None = None
    undecided: bool = False


def run_with_bisection(
    run: Callable[[Tensors], Tensors],
    inputs: Tensors,
    rows: int,
    most: int,
    over: Callable[[], bool] = lambda: False,
) -> RunOutcome:
    """Runs all rows; if that fails, runs halves, and halves of these, until the failing rows are alone.

    Rows that are left after `most` further runs, or when `over` returns True, count as failed. Never raises: what the
    engine raises is in the outcome.
    """
    try:
        return RunOutcome(run(inputs))
    except (BackendLostError, BackendLateError) as error:
        # No row is at fault, and no backend is left to run the halves.
        return RunOutcome({}, np.zeros(rows, bool), error)
    except Exception as error:  # noqa: BLE001 - engines raise anything; the outcome carries it to the log
        first = error
    ran = np.zeros(rows, bool)
    parts: list[tuple[int, Tensors]] = []
    waiting = deque(_halves(0, rows))
    for attempt in range(most):
        if not waiting or over():
            break
        # In turn the largest part, which saves many rows at once, and the smallest, which shows soonest whether any row is good.
        start, stop = waiting.pop() if attempt % 2 else waiting.popleft()
        try:
            outputs = run({name: array[start:stop] for name, array in inputs.items()})
        except Exception:  # noqa: BLE001 - as above; the first error is enough for the log
            waiting += _halves(start, stop)
        else:
            parts.append((start, outputs))
            ran[start:stop] = True
    parts.sort(key=lambda part: part[0])
    names = parts[0][1] if parts else ()
    found = {n: np.concatenate([outputs[n] for _, outputs in parts]) for n in names}
    return RunOutcome(found, ran, first, undecided=bool(waiting))


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    if stop - start < 2:
        return []
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)]

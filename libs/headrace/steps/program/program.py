"""A compiled specification, and its runs over columns and over batches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, Ragged, RowError
from headrace.columns.column import join
from headrace.hop.errors import Code, Fault, Reason
from headrace.steps.errors import SpecError
from headrace.steps.frame import Frame, Mask
from headrace.steps.options import Options
from headrace.steps.step import Step, Weighted


class OutputError(Exception):
    """A program made another column than it declares. `rows`: bool (rows,), True where it is wrong; None: all."""

    def __init__(self, message: str, rows: Mask | None = None) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Output:
    """A declared output: element type and dimensions of one row."""

    name: str
    dtype: DType
    row_shape: tuple[int, ...]

    def accepts(self, dtype: DType) -> bool:
        """Whether values of `dtype` may become this output: the same kind of number, or a wider one."""
        if DType.BYTES in (dtype, self.dtype):
            return dtype is self.dtype
        return bool(np.can_cast(dtype.numpy, self.dtype.numpy, "same_kind"))

    def blank(self, rows: int) -> Column:
        """Zeros, or empty byte strings, for rows that have no result."""
        shape, is_text = (rows, *self.row_shape), self.dtype is DType.BYTES
        zeros = np.zeros(math.prod(shape) + 1, np.uint32) if is_text else np.zeros(shape, self.dtype.numpy)
        return Column(self.name, self.dtype, Ragged(zeros, b"") if is_text else zeros, self.row_shape)

    def conformed(self, column: Column, rows: int) -> Column:
        """`column` in the declared type. Raises OutputError if its shape, type or values do not fit."""
        if column.row_shape != self.row_shape or len(column) != rows:
            made, wanted = [len(column), *column.row_shape], [rows, *self.row_shape]
            raise OutputError(f"{self.name!r} has shape {made}; {wanted} is declared")
        if column.dtype is self.dtype:
            return column
        if not self.accepts(column.dtype):
            made_type, declared = column.dtype.name.lower(), self.dtype.name.lower()
            raise OutputError(f"{self.name!r} is {made_type}; {declared} is declared: add a `cast` step")
        values = column.array.astype(self.dtype.numpy)
        if not self.dtype.is_float and self.dtype.numpy.itemsize <= column.dtype.numpy.itemsize:
            wrong = (values.astype(column.dtype.numpy) != column.array).reshape(rows, -1).any(axis=1)
            if wrong.any():
                raise OutputError(
                    f"{self.name!r} has values that do not fit {self.dtype.name.lower()}", wrong
                )
        return Column(self.name, self.dtype, values, self.row_shape, column.valid)


def read_outputs(value: object, made: Mapping[str, DType | None]) -> tuple[Output, ...]:
    """The `outputs` of a specification: name → type, or name → {type, shape}.

    Raises SpecError for one that no step makes, or that is made of another type.
    """
    options = Options("outputs", value)
    if not options.values:
        raise SpecError("outputs", "needs at least one output")
    outputs = []
    for name in options.values:
        output = _read_output(options, name)
        if name not in made:
            raise options.error(name, f"no step makes it; they make {', '.join(made)}")
        dtype = made[name]
        if dtype is not None and not output.accepts(dtype):
            declared = output.dtype.name.lower()
            raise options.error(
                name, f"the steps make it {dtype.name.lower()}, not {declared}; add a `cast` step"
            )
        outputs.append(output)
    return tuple(outputs)


def _read_output(options: Options, name: str) -> Output:
    """A column's type in its short form `float32` or its long form `{type: float32, shape: [24]}`."""
    if isinstance(options.raw(name), str):
        return Output(name, options.dtype(name), ())
    section = options.section(name)
    dtype = section.dtype("type")
    shape = section.raw("shape", ())
    if not isinstance(shape, list | tuple) or not all(type(n) is int and 0 < n <= 1 << 24 for n in shape):
        raise section.error("shape", "should be a list of dimensions, each 1 or more")
    section.done()
    return Output(name, dtype, tuple(shape))


# When a step raises, the batch is halved until the rows at fault are found; this limits the number of runs.
MAX_ATTEMPTS = 64


@dataclass(frozen=True, slots=True)
class Failure:
    """An unexpected exception of a step, for the log. `step`: its path, as `steps[2].impute`."""

    step: str
    error: Exception


@dataclass(slots=True)
class Result:
    """What a run gave.

    `columns`: the declared outputs, for all rows; in the rows of `errors` (by position) their values mean nothing.
    `unseen`: (name of the step, column) → count of values outside its vocabulary.
    """

    columns: dict[str, Column]
    errors: dict[int, RowError] = field(default_factory=dict)
    unseen: Mapping[tuple[str, str], int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class _Attempts:
    left: int = MAX_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Program:
    """Steps that were read from a specification; safe to run from several threads.

    `reads`: columns needed from outside. `writes`: columns that the steps make, with their types; None where these depend
    on what is read. `weight`: the work for one row, in ordinary steps (see `Weighted`).
    """

    kind: str
    steps: Sequence[tuple[str, Step]]  # (path, step)
    reads: tuple[str, ...]
    writes: Mapping[str, DType | None]
    outputs: tuple[Output, ...]
    weight: int = field(init=False)

    def __post_init__(self) -> None:
        weights = [step.weight if isinstance(step, Weighted) else 1 for _, step in self.steps]
        object.__setattr__(self, "weight", sum(weights))

    def run(self, columns: Mapping[str, Column], rows: int) -> Result:
        """Runs the steps over `rows` rows; columns that no step reads are ignored.

        Raises Fault INVALID_ARGUMENT if a column that the steps read is missing, or has a type or shape that a
        step can't use. What is wrong with single rows is in `Result.errors`.
        """
        try:
            read = {n: columns[n] for n in self.reads}
        except KeyError as error:
            code, reason, missing = Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, error.args[0]
            message = f"the steps read {missing!r}, which was not sent"
            raise Fault(code, reason, message, metadata={"field": missing}) from None
        if rows == 0:
            return Result({o.name: o.blank(0) for o in self.outputs})
        return self._run(read, rows, _Attempts())

    # The numbers in the place of missing values must not cause warnings.
    @np.errstate(all="ignore")
    def _run(self, columns: Mapping[str, Column], rows: int, attempts: _Attempts) -> Result:
        attempts.left -= 1
        frame = Frame(columns, rows, self.kind)
        for path, step in self.steps:
            try:
                step.run(frame)
            except Fault:
                raise
            except Exception as error:  # noqa: BLE001 - users' code may raise anything; the row gets the error
                return self._run_in_halves(columns, rows, Failure(path, error), attempts)
        result = Result({}, frame.errors, frame.unseen)
        for output in self.outputs:
            self._keep(result, frame, output)
        return result

    def _run_in_halves(
        self, columns: Mapping[str, Column], rows: int, failure: Failure, attempts: _Attempts
    ) -> Result:
        """Runs the rows in halves, so that only the rows at fault fail."""
        if rows == 1 or attempts.left < 2:
            message = f"{failure.step} raised {type(failure.error).__name__}; the service's log has more"
            errors = dict.fromkeys(range(rows), self._step_failed(message, failure.step))
            return Result({o.name: o.blank(rows) for o in self.outputs}, errors, failures=[failure])
        middle = rows // 2
        left = self._run({n: c.slice(0, middle) for n, c in columns.items()}, middle, attempts)
        right = self._run({n: c.slice(middle, rows) for n, c in columns.items()}, rows - middle, attempts)
        return Result(
            {o.name: join([left.columns[o.name], right.columns[o.name]]) for o in self.outputs},
            {**left.errors, **{row + middle: e for row, e in right.errors.items()}},
            Counter(left.unseen) + Counter(right.unseen),
            left.failures + right.failures,
        )

    def _keep(self, result: Result, frame: Frame, output: Output) -> None:
        try:
            result.columns[output.name] = output.conformed(frame.columns[output.name], frame.rows)
        except OutputError as error:
            rows: Mask = np.ones(frame.rows, bool) if error.rows is None else error.rows
            result.columns[output.name] = output.blank(frame.rows)
            if len(good := np.flatnonzero(~rows)):
                kept = output.conformed(frame.columns[output.name].take(good), len(good))
                result.columns[output.name] = _spread(kept, good, frame.rows, output.blank(1))
            row_error = self._step_failed(str(error), f"outputs.{output.name}")
            for row in np.flatnonzero(rows).tolist():
                result.errors.setdefault(row, row_error)

    def _step_failed(self, message: str, step: str) -> RowError:
        return RowError(Code.INTERNAL, Reason.REASON_STEP_FAILED, message, self.kind, {"step": step})


def run_batch(program: Program, batch: Batch, now: float) -> tuple[Batch, Result | None]:
    """The outputs for all rows of `batch`, in its order, and the result of the run (None: no row took part).

    `now`: monotonic seconds. The returned batch has only the program's outputs; rows that failed before keep their error.
    Raises Fault as `Program.run`.
    """
    late, rows = batch.expired(now, program.kind), batch.rows
    if not late and not batch.errors:
        result = program.run(batch.columns, len(rows.request_ids))
        return Batch(rows, result.columns, result.errors), result
    errors = {**late, **batch.errors}
    taking_part = np.ones(len(batch), bool)
    taking_part[list(errors)] = False
    index = np.flatnonzero(taking_part)
    if not len(index):
        blank = {o.name: o.blank(len(batch)) for o in program.outputs}
        return Batch(batch.rows, blank, errors), None
    read: Mapping[str, Column] = {
        n: batch.columns[n].take(index) for n in program.reads if n in batch.columns
    }
    result = program.run(read, len(index))
    for position, error in result.errors.items():
        errors[int(index[position])] = error
    columns = {
        o.name: _spread(result.columns[o.name], index, len(batch), o.blank(1)) for o in program.outputs
    }
    return Batch(batch.rows, columns, errors), result


def _spread(column: Column, index: NDArray[np.intp], rows: int, blank: Column) -> Column:
    """A column of `rows` rows: those of `column` at the positions `index`, and the row of `blank` at all others.

    A row that took no part must not get another row's value: they may belong to different tenants.
    """
    source = np.full(rows, len(column), np.intp)
    source[index] = np.arange(len(index))
    return join([column, blank]).take(source)

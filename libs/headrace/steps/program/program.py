"""A compiled specification: its steps in order, the columns it needs and those it promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.columns import Column, DType, RowError
from headrace.columns.column import join
from headrace.hop.errors import Code, Fault, Reason
from headrace.steps.frame import Frame, Mask
from headrace.steps.program.outputs import BrokenPromise, Output
from headrace.steps.step import Step

# When a step fails, a batch is halved until the rows to blame are found, but run no more often than this.
MAX_ATTEMPTS = 64


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that a step did not mean to raise, for the log; `step`: as `steps[2].impute`."""

    step: str
    error: Exception


@dataclass(slots=True)
class Result:
    """What a run gave. `unseen`: (kind of step, column) → values outside its vocabulary.

    `columns` are the declared outputs for all rows; in the rows of `errors` their values mean nothing.
    """

    columns: dict[str, Column]
    errors: dict[int, RowError] = field(default_factory=dict)
    unseen: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class _Attempts:
    left: int = MAX_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Program:
    """Steps that were read from a specification; safe to run from several threads.

    `reads`: columns needed from outside; `writes`: columns that the steps make, `types` with their types
    where these don't depend on what is read. `weight`: the work for one row, in ordinary steps; a step that is as much
    work as many says so by a `weight` of its own.
    """

    kind: str
    steps: Sequence[tuple[str, Step]]  # (path, step)
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    types: Mapping[str, DType | None]
    outputs: tuple[Output, ...]
    weight: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", sum(getattr(step, "weight", 1) for _, step in self.steps))

    def run(self, columns: Mapping[str, Column], rows: int) -> Result:
        """Runs the steps over `rows` rows; columns that no step reads are left alone.

        Raises Fault INVALID_ARGUMENT if a column that the steps read is missing, or has a type or shape that a
        step can't use. Everything that is wrong with single rows is in `Result.errors`.
        """
        missing = [n for n in self.reads if n not in columns]
        if missing:
            message = f"the steps read {missing[0]!r}, which was not sent"
            metadata = {"field": missing[0]}
            raise Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, metadata=metadata)
        if rows == 0:
            return Result({o.name: o.blank(0) for o in self.outputs})
        # What stands where there is no value must not warn.
        with np.errstate(all="ignore"):
            return self._run({n: columns[n] for n in self.reads}, rows, _Attempts())

    def _run(self, columns: Mapping[str, Column], rows: int, attempts: _Attempts) -> Result:
        attempts.left -= 1
        frame = Frame(columns, rows, self.kind)
        for path, step in self.steps:
            try:
                step.run(frame)
            except Fault:
                raise
            except Exception as error:  # noqa: BLE001 - users' code may raise anything; its row says so
                return self._narrowed(columns, rows, Failure(path, error), attempts)
        result = Result({}, frame.errors, frame.unseen)
        for output in self.outputs:
            self._keep(result, frame, output)
        return result

    def _narrowed(
        self, columns: Mapping[str, Column], rows: int, failure: Failure, attempts: _Attempts
    ) -> Result:
        """The rows in halves, so that only those to blame fail."""
        if rows == 1 or attempts.left < 2:
            message = f"{failure.step} raised {type(failure.error).__name__}; the service's log has more"
            errors = dict.fromkeys(range(rows), self._broken(message, failure.step))
            return Result({o.name: o.blank(rows) for o in self.outputs}, errors, failures=[failure])
        middle = rows // 2
        left = self._run({n: c.slice(0, middle) for n, c in columns.items()}, middle, attempts)
        right = self._run({n: c.slice(middle, rows) for n, c in columns.items()}, rows - middle, attempts)
        return Result(
            {o.name: join([left.columns[o.name], right.columns[o.name]]) for o in self.outputs},
            {**left.errors, **{row + middle: e for row, e in right.errors.items()}},
            left.unseen + right.unseen,
            left.failures + right.failures,
        )

    def _keep(self, result: Result, frame: Frame, output: Output) -> None:
        try:
            result.columns[output.name] = output.conformed(frame.columns[output.name], frame.rows)
        except BrokenPromise as broken:
            result.columns[output.name] = output.blank(frame.rows)
            rows: Mask = np.ones(frame.rows, bool) if broken.rows is None else broken.rows
            error = self._broken(str(broken), f"outputs.{output.name}")
            for row in np.flatnonzero(rows).tolist():
                result.errors.setdefault(row, error)

    def _broken(self, message: str, step: str) -> RowError:
        return RowError(Code.INTERNAL, Reason.REASON_STEP_FAILED, message, self.kind, {"step": step})

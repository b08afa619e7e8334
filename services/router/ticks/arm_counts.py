"""The counts of one arm of one release. A batch is only noted when it is answered; many are counted together later."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np

from headrace.columns import Batch, Column, DType, RowError
from headrace.hop.errors import OUR_CODES, Blame, blame
from headrace.pipeline import OutputField
from headrace.ticks import (
    LATENCY_BUCKETS,
    LATENCY_EDGES_S,
    OUTPUT_BUCKETS,
    ArmFigures,
    OutputFigures,
    latency_bucket,
    output_counts,
)
from services.router.cache.run import CACHED
from services.router.ticks.units import UnitCounter

# Rows that are noted before they are counted. Of so many, NumPy's cost per call is nothing; their outputs take 16 KB.
_NOTED_ROWS = 2048


def ours(error: RowError) -> bool:
    """Whether a row failed by a fault of ours. A deadline counts, whoever set it: an arm that is too slow makes it pass, and
    callers of both arms set the same ones."""
    return error.code in OUR_CODES or blame(error.reason) is not Blame.CALLER


def counted(output: OutputField) -> bool:
    """Whether a histogram is kept of an output: one number or truth value a row."""
    return not output.row_shape and output.dtype is not DType.BYTES


class ArmCounter:
    """Counts of one arm, cumulative. Not for several threads."""

    __slots__ = (
        "_errors",
        "_latency",
        "_names",
        "_noted",
        "_noted_rows",
        "_nulls",
        "_outputs",
        "_rows",
        "changed",
        "units",
    )

    def __init__(self, outputs: Sequence[OutputField]) -> None:
        self._outputs = {
            o.name: np.zeros(2 if o.dtype is DType.BOOL else OUTPUT_BUCKETS, np.int64)
            for o in outputs
            if counted(o)
        }
        self._names = tuple(self._outputs)
        self._nulls = dict.fromkeys(self._names, 0)
        self._rows = self._errors = 0
        self._latency = [0] * LATENCY_BUCKETS
        self._noted: list[tuple[Mapping[int, RowError], list[Column]]] = []
        self._noted_rows = 0
        # What chance divided among the arms; the caller counts with it.
        self.units = UnitCounter()
        # Whether the receiver lacks any of it.
        self.changed = True

    def note(self, answer: Batch, seconds: float) -> int:
        """An answer of this arm, `seconds` after its rows arrived. Returns how many rows took so long: a kept answer says nothing
        of the time of an arm."""
        count = timed = len(answer)
        columns = answer.columns
        if CACHED in columns:
            timed = int(np.count_nonzero(columns[CACHED].array < 0))
        self._rows += count
        self._latency[bisect_left(LATENCY_EDGES_S, seconds)] += timed
        self._noted.append((answer.errors, [columns[name] for name in self._names]))
        self._noted_rows += count
        self.changed = True
        if self._noted_rows > _NOTED_ROWS:
            self.settle()
        return timed

    def fail(self, rows: int, seconds: float) -> None:
        """So many rows got no answer at all, as our own code failed."""
        self._rows += rows
        self._errors += rows
        self._latency[latency_bucket(seconds)] += rows
        self.changed = True

    def settle(self) -> None:
        """Counts what was noted."""
        noted, self._noted, self._noted_rows = self._noted, [], 0
        if not noted:
            return
        good = [columns for errors, columns in noted if not errors]
        if len(good) < len(noted):
            failed = [one for one in noted if one[0]]
            self._errors += sum(ours(error) for errors, _ in failed for error in errors.values())
            good += [_without_errors(errors, columns) for errors, columns in failed]
        for place, (name, counts) in enumerate(self._outputs.items()):
            parts = [columns[place] for columns in good]
            values = np.concatenate([part.array for part in parts])
            if [part for part in parts if part.valid is not None]:
                values = values[np.concatenate([part.is_valid() for part in parts])]
                self._nulls[name] += sum(map(len, parts)) - len(values)
            if values.dtype == np.bool_:
                true = np.count_nonzero(values)
                counts += (len(values) - true, true)
            else:
                counts += output_counts(values)

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._rows

    def figures(self) -> ArmFigures:
        """All counts."""
        self.settle()
        outputs = {
            name: OutputFigures(tuple(counts.tolist()), self._nulls[name], boolean=len(counts) == 2)
            for name, counts in self._outputs.items()
        }
        return ArmFigures(self._rows, self._errors, tuple(self._latency), outputs, self.units.figures())


def _without_errors(errors: Mapping[int, RowError], columns: list[Column]) -> list[Column]:
    if not errors or not columns:
        return columns
    kept = np.ones(len(columns[0]), bool)
    kept[list(errors)] = False
    index = np.flatnonzero(kept)
    return [column.take(index) for column in columns]

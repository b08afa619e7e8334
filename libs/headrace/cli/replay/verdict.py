"""What a replay found: how many rows differ, in which outputs, by how much, and which they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from headrace.cli.replay.record import Record
from headrace.columns import Batch, RowError
from headrace.columns.column import Mask
from headrace.comparison import QuantileSketch, differences, shown
from headrace.hop.errors import reason_name

# The name of the difference that the candidate refused a row.
ERROR = "(error)"


class NamedDifference(NamedTuple):
    """One value. `row`: position among the rows of its request in the batch."""

    request_id: str
    row: int
    output: str
    old: str
    new: str


@dataclass(slots=True)
class OutputTally:
    """Of one output: rows compared, rows that differ, greatest absolute differences of floating-point numbers."""

    rows: int = 0
    different: int = 0
    deltas: QuantileSketch = field(default_factory=QuantileSketch)


@dataclass(slots=True)
class Verdict:
    """`tolerance`, and `relative` to the recorded one: of floating-point numbers; both 0: they must be the same bit for bit.
    `shown`: how many differences are named.

    `requests`: different request ids of a batch, summed up over the batches.
    """

    tolerance: float = 0.0
    shown: int = 20
    relative: float = 0.0
    batches: int = 0
    requests: int = 0
    rows: int = 0
    different_rows: int = 0
    errors_changed: int = 0
    outputs: dict[str, OutputTally] = field(default_factory=dict)
    named: list[NamedDifference] = field(default_factory=list)
    # Model → versions that ran then, and now.
    old_models: dict[str, set[str]] = field(default_factory=dict)
    new_models: dict[str, set[str]] = field(default_factory=dict)

    def add(self, record: Record, answer: Batch) -> None:
        """Compares one answer with the recorded one."""
        self.batches += 1
        self.requests += len(set(record.inputs.rows.request_ids))
        self.rows += len(record.inputs)
        changed = self._errors(record, answer.errors)
        both = answer.ok()
        for name, old in record.answer.columns.items():
            tally = self.outputs.setdefault(name, OutputTally())
            new = answer.columns.get(name)
            if new is None:
                differs = both.copy()
            else:
                found = differences(old, new, self.tolerance, self.relative)
                differs = found.differs & both
                if found.deltas is not None:
                    tally.deltas.add(found.deltas[both])
            tally.rows += int(both.sum())
            tally.different += int(differs.sum())
            changed |= differs
            for row in np.flatnonzero(differs)[: self._left].tolist():
                self._name(record, row, name, shown(old, row), "absent" if new is None else shown(new, row))
        self.different_rows += int(changed.sum())

    def _errors(self, record: Record, errors: Mapping[int, RowError]) -> Mask:
        changed = np.zeros(len(record.inputs), bool)
        for row, error in sorted(errors.items()):
            changed[row] = True
            self.errors_changed += 1
            if self._left:
                told = f"{error.code.name} {reason_name(error.reason)}: {error.message}"[:120]
                self._name(record, row, ERROR, "answered", told)
        return changed

    @property
    def _left(self) -> int:
        return max(self.shown - len(self.named), 0)

    def _name(self, record: Record, row: int, output: str, old: str, new: str) -> None:
        ids = record.inputs.rows.request_ids
        self.named.append(NamedDifference(ids[row], ids[:row].count(ids[row]), output, old, new))

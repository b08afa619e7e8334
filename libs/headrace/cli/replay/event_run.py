"""Runs stored events again, on what made each of them or on a candidate, and says how many came out equal."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headrace.api.monitoring.v1 import shadow_pb2 as pb
from headrace.cli.comparison_views import differences
from headrace.cli.installation.layout import Layout
from headrace.cli.replay.candidate import Candidate, ReplayError, models_of
from headrace.cli.replay.stored_events import Basis, Record, Replayable
from headrace.columns import Batch
from headrace.comparison import ComparisonReport
from headrace.pipeline import ModelUse
from headrace.repository import Repository, RepositoryError, Tolerance, stated_tolerance


@dataclass(slots=True)
class Compared:
    """Events of one basis, and how their answers compare with those of the candidate. `differing`: how many differ; `then`,
    `now`: model → versions that ran."""

    basis: Basis
    candidate: Candidate
    report: ComparisonReport
    differing: int = 0
    then: dict[str, set[str]] = field(default_factory=dict)
    now: dict[str, set[str]] = field(default_factory=dict)

    def add(self, record: Record, answer: Batch, models: Iterable[ModelUse]) -> None:
        """Compares one answer with the recorded one. `models`: that ran now."""
        for uses, found in ((record.models, self.then), (models, self.now)):
            for use in uses:
                found.setdefault(use.model, set()).add(use.version)
        count, old = len(record.answer), record.answer.columns
        # An output that the candidate lacks has no value in any row.
        absent = {name: replace(column, valid=np.zeros(count, bool)) for name, column in old.items()}
        given = replace(answer, columns={**absent, **answer.columns})
        self.differing += self.report.add(record.answer, given, old)


@dataclass(slots=True)
class EventReport:
    """What a replay of stored events found."""

    compared: list[Compared] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        return self.replayed + sum(self.left_out.values())

    @property
    def replayed(self) -> int:
        return sum(c.report.rows for c in self.compared)

    @property
    def coverage(self) -> float:
        """Share of the events that could be run again."""
        return self.replayed / self.events if self.events else 0.0

    @property
    def differing(self) -> int:
        return sum(c.differing for c in self.compared)

    @property
    def equal(self) -> int:
        return self.replayed - self.differing

    def values(self) -> dict[str, Any]:
        """For programs."""
        return {
            "events": self.events,
            "equal": self.equal,
            "differing": self.differing,
            "coverage": self.coverage,
            "not_replayable": sum(self.left_out.values()),
            "why_not": dict(self.left_out),
            "compared": [_values(c) for c in self.compared],
        }


def run_events(
    layout: Layout, found: Replayable, tolerance: float | None, done: Callable[[], None]
) -> EventReport:
    """Runs all. `tolerance` None: what the metadata of the models state.

    Raises ReplayError, config.ConfigError, OSError.
    """
    # Not with the command's other imports: the services take seconds.
    from headrace.cli.replay.hosting import replay

    report = EventReport(left_out=dict(found.left_out))
    for basis, (candidate, records) in found.records.items():
        allowed = Tolerance(tolerance, 0.0) if tolerance is not None else stated(layout, candidate)
        counted = ComparisonReport(tolerance=allowed.absolute, relative=allowed.relative)
        compared = Compared(basis, candidate, counted)
        asyncio.run(replay(layout, compared, records, done))
        report.compared.append(compared)
    return report


def stated(layout: Layout, candidate: Candidate) -> Tolerance:
    """The widest tolerance of the candidate's models; without any its answers must be the same bit for bit.

    Raises ReplayError if the metadata of one can't be read.
    """
    repository, pipeline = Repository(layout.models), candidate.pipeline
    try:
        found = [stated_tolerance(repository.metadata(*model)) for model in models_of(pipeline).items()]
    except RepositoryError as error:
        raise ReplayError(str(error)) from None
    return Tolerance(
        max((t.absolute for t in found), default=0.0), max((t.relative for t in found), default=0.0)
    )


def _values(compared: Compared) -> dict[str, Any]:
    report, then, now = compared.report, compared.then, compared.now
    counted = report.message()
    return {
        **compared.basis._asdict(),
        "candidate": compared.candidate.name,
        "models": {
            m: {"then": sorted(then.get(m, ())), "now": sorted(now.get(m, ()))} for m in sorted({*then, *now})
        },
        "tolerance": {"absolute": report.tolerance, "relative": report.relative},
        "events": report.rows,
        "differing": compared.differing,
        "errors_changed": counted.shadow_failed_count,
        "outputs": {found.name: _output(found) for found in sorted(counted.outputs, key=lambda o: o.name)},
        "differences": [
            {"prediction_id": row.prediction_id, "output": output, "then": old, "now": new}
            for row in counted.worst
            for output, old, new in differences(row)
        ],
    }


def _output(found: pb.OutputComparison) -> dict[str, Any]:
    told: dict[str, Any] = {"compared": found.row_count, "differing": found.row_count - found.equal_count}
    if found.deltas.value_count:
        most = found.deltas.max if math.isfinite(found.deltas.max) else None
        told |= {"p50": found.deltas.p50, "p99": found.deltas.p99, "max": most}
    return told

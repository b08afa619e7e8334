"""Runs stored events again, on what made each of them or on a candidate, and says how many came out equal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.cli.installation.layout import Layout
from headrace.cli.replay.candidate import Candidate, ReplayError
from headrace.cli.replay.stored_events import Basis, Replayable
from headrace.cli.replay.verdict import Verdict
from headrace.pipeline import kind_of
from headrace.repository import Repository, RepositoryError, Tolerance, stated_tolerance


@dataclass(frozen=True, slots=True)
class Compared:
    """Events of one basis, and what their answers were on the candidate."""

    basis: Basis
    candidate: Candidate
    verdict: Verdict


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
        return sum(c.verdict.rows for c in self.compared)

    @property
    def differing(self) -> int:
        return sum(c.verdict.different_rows for c in self.compared)

    @property
    def equal(self) -> int:
        return self.replayed - self.differing

    def values(self) -> dict[str, Any]:
        """For programs."""
        return {
            "events": self.events,
            "equal": self.equal,
            "differing": self.differing,
            "not_replayable": sum(self.left_out.values()),
            "why_not": dict(self.left_out),
            "compared": [_values(c) for c in self.compared],
        }


def run_events(
    layout: Layout, found: Replayable, tolerance: float | None, show: int, done: Callable[[], None]
) -> EventReport:
    """Runs all. `tolerance` None: what the metadata of the models state. `show`: how many differences of each are named.

    Raises ReplayError, config.ConfigError, OSError.
    """
    # Not with the command's other imports: the services take seconds.
    from headrace.cli.replay.run import replay

    report = EventReport(left_out=dict(found.left_out))
    for basis, (candidate, records) in found.records.items():
        allowed = Tolerance(tolerance, 0.0) if tolerance is not None else stated(layout, candidate)
        verdict = Verdict(allowed.absolute, show, allowed.relative)
        asyncio.run(replay(layout, candidate, records, verdict, done))
        report.compared.append(Compared(basis, candidate, verdict))
    return report


def stated(layout: Layout, candidate: Candidate) -> Tolerance:
    """The widest tolerance of the candidate's models; without any its answers must be the same bit for bit.

    Raises ReplayError if the metadata of one can't be read.
    """
    repository, pipeline = Repository(layout.models), candidate.pipeline
    models = {name: v for stage in pipeline.stages for name, v in kind_of(stage).models(stage).items()}
    try:
        found = [stated_tolerance(repository.metadata(*model)) for model in models.items()]
    except RepositoryError as error:
        raise ReplayError(str(error)) from None
    return Tolerance(
        max((t.absolute for t in found), default=0.0), max((t.relative for t in found), default=0.0)
    )


def _values(compared: Compared) -> dict[str, Any]:
    basis, verdict = compared.basis, compared.verdict
    return {
        **basis._asdict(),
        "candidate": compared.candidate.name,
        "models": {
            m: {"then": sorted(verdict.old_models.get(m, ())), "now": sorted(verdict.new_models.get(m, ()))}
            for m in sorted({*verdict.old_models, *verdict.new_models})
        },
        "tolerance": {"absolute": verdict.tolerance, "relative": verdict.relative},
        "events": verdict.rows,
        "differing": verdict.different_rows,
        "errors_changed": verdict.errors_changed,
        "outputs": {
            name: {
                "compared": tally.rows,
                "differing": tally.different,
                **(
                    {
                        "p50": tally.deltas.quantile(0.5),
                        "p99": tally.deltas.quantile(0.99),
                        "max": None if tally.deltas.infinite else tally.deltas.max,
                    }
                    if tally.deltas.count
                    else {}
                ),
            }
            for name, tally in sorted(verdict.outputs.items())
        },
        "differences": [
            {"prediction_id": d.request_id, "output": d.output, "then": d.old, "now": d.new}
            for d in verdict.named
        ],
    }

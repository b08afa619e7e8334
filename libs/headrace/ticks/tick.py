"""A router's tick: what it has counted since its process began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class ArmName(NamedTuple):
    """One arm of one release of a pipeline. `release` 0: the pipeline has none. `by_rule`: the rows that a rule sent there, which
    are counted apart from those drawn by weight."""

    pipeline: str
    release: int
    arm: str
    by_rule: bool = False


@dataclass(frozen=True, slots=True)
class AssignedFigures:
    """The units that chance divided among the arms, each once; "before": in any arm, within the salt of the assignment. Rows of
    one request, or that are answered together, share a fate: counted one by one, they would be too much evidence.

    Where each request is drawn anew: `requests`, and `bad_requests` that lost a row by a fault of ours. Where a key decides:
    `new_keys` that were not met before, `fresh_rows` of keys of which no row had failed before by a fault of ours, `fresh_bad`
    keys of which one failed for the first time. `answers`: by `bins.LATENCY_EDGES_S`, rows that are answered together being one;
    (): none. `saturated`: further keys could not be told apart and are left out.
    """

    requests: int = 0
    bad_requests: int = 0
    new_keys: int = 0
    fresh_rows: int = 0
    fresh_bad: int = 0
    answers: tuple[int, ...] = ()
    saturated: bool = False

    def plus(self, other: AssignedFigures) -> AssignedFigures:
        """The figures of both."""
        return AssignedFigures(
            self.requests + other.requests,
            self.bad_requests + other.bad_requests,
            self.new_keys + other.new_keys,
            self.fresh_rows + other.fresh_rows,
            self.fresh_bad + other.fresh_bad,
            _summed(self.answers, other.answers),
            self.saturated or other.saturated,
        )


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """Counts of one arm. `errors`: rows that failed by a fault of ours; `latency`: rows by `bins.LATENCY_EDGES_S`,
    without those that got a kept answer."""

    rows: int
    errors: int
    latency: tuple[int, ...]
    assigned: AssignedFigures = AssignedFigures()


@dataclass(frozen=True, slots=True)
class Exposure:
    """One row and the arm that answered it. `key`: hash of its sticky value; None: the assignment was not sticky.

    `labels`: output → value, of outputs that an outcome of the same name can be compared with.
    """

    arm: ArmName
    tenant: str
    request_id: str
    row: int
    key: int | None = None
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """One report. `base`: all that changed after the tick of this number is in it; 0: all that there is."""

    epoch: int
    sequence: int
    base: int
    arms: Mapping[ArmName, ArmFigures] = field(default_factory=dict)


def added(one: ArmFigures, other: ArmFigures) -> ArmFigures:
    """The counts of both."""
    return ArmFigures(
        one.rows + other.rows,
        one.errors + other.errors,
        _summed(one.latency, other.latency),
        one.assigned.plus(other.assigned),
    )


def _summed(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    if len(one) < len(other):
        one, other = other, one
    return (*(a + b for a, b in zip(one, other, strict=False)), *one[len(other) :])

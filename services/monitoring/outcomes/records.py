"""Outcomes and what follows from them, as values."""

from __future__ import annotations

from dataclasses import dataclass

# An outcome of this name says by itself whether the prediction was wrong.
WRONG = "wrong"
# In one call.
MAX_OUTCOMES = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """One named value of one prediction. `label`: whether it is a truth value, 0 or 1. `time`: seconds since 1970."""

    request_id: str
    row: int
    name: str
    value: float
    label: bool
    time: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of outcomes. `new`: those that were not there yet; `unknown`: of all, those whose prediction has no record;
    `repeated`: those that were there with the same value; `contradictory`: with another value, which is kept apart and not
    taken."""

    new: int
    unknown: int
    repeated: int = 0
    contradictory: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions of one arm of which outcomes say whether they were right."""

    rows: int
    wrong: int


class OutcomeError(Exception):
    """An outcome can't be of its prediction. The text names it by its number in the call."""


class StorageError(Exception):
    """Nothing can be written or read now. The text says why, without paths."""

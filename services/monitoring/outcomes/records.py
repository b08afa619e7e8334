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
    """What became of outcomes. `new`: those that were not there yet; `unmatched`: those of them without an exposure."""

    new: int
    unmatched: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions of one arm of which outcomes say whether they were right. With `keys`, those are distinct sticky values."""

    rows: int
    wrong: int


class StorageError(Exception):
    """Nothing can be written or read now. The text says why, without paths."""

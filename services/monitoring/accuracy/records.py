"""What is known of predictions and their labels, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple


class Chosen(IntEnum):
    """What sent rows to their arm. ALONE: outcomes do not compare it with others."""

    ALONE = 0
    BY_CHANCE = 1
    BY_RULE = 2


class Maker(NamedTuple):
    """What made a prediction. `version`: the models' versions and the document's revision, in words; "": of rows that failed."""

    pipeline: str
    release: int
    arm: str
    version: str
    chosen: Chosen = Chosen.ALONE


class Prediction(NamedTuple):
    """One row that was answered. `time`: when, seconds since 1970; `labels`: output → value, of outputs that an outcome of the
    same name can be compared with; `expected`: probability that it is right, by the model itself; None: not calibrated; `key`:
    hash of the sticky value (64 bits, signed) of a row that chance sent to its arm."""

    tenant: str
    request_id: str
    row: int
    time: float
    labels: Mapping[str, float]
    expected: float | None = None
    key: int | None = None


@dataclass(slots=True)
class Window:
    """Predictions of one version that were made in one span of time. `start`: seconds since 1970; `rows`: predictions that were
    recorded, `labelled`: those with a label, `wrong`: of these; `expected`: sum over the `expected_rows` that have one;
    `contradictions`: outcomes that contradicted an earlier one."""

    start: float
    rows: int = 0
    labelled: int = 0
    wrong: int = 0
    expected_rows: int = 0
    expected: float = 0.0
    contradictions: int = 0

    @property
    def coverage(self) -> float:
        """Share of the predictions that have a label."""
        return self.labelled / self.rows if self.rows else 0.0


@dataclass(slots=True)
class VersionWindows:
    """Of one version: its windows, the oldest first, and how many labels came in which bucket of `delays`."""

    pipeline: str
    version: str
    windows: Sequence[Window] = ()
    delays: dict[int, int] = field(default_factory=dict)

"""Explanations as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each column added to an output of a prediction, against the base row. `contributions`, `errors`, `sources`: by column,
    in the order of `columns`. The values of the columns are in the prediction's event alone."""

    prediction_id: bytes
    tenant: str
    pipeline: str
    revision: str
    arm: str
    output: str
    base: float
    value: float
    exact: bool
    columns: tuple[str, ...]
    contributions: tuple[float, ...]
    errors: tuple[float, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColumnContribution:
    """What one column added. `value`: as the event has it (JSON); a hash in the place of personal data. `base_source`: where the
    base row's value comes from."""

    column: str
    value: Any
    contribution: float
    standard_error: float
    base_source: str


@dataclass(frozen=True, slots=True)
class ShownExplanation:
    """An explanation with the values of its columns, the largest contribution first. `stored`: seconds since 1970."""

    explanation: Explanation
    columns: Sequence[ColumnContribution]
    stored: float

    @property
    def base(self) -> float:
        """The output of the base row."""
        return self.explanation.base

    @property
    def value(self) -> float:
        """The output of the prediction: the base and all contributions together."""
        return self.explanation.value

    @property
    def standard_error(self) -> float:
        """The largest of the contributions' standard errors; 0: they are exact."""
        return max(self.explanation.errors, default=0.0)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Predictions of a pipeline that must be explained, and those of them that are."""

    pipeline: str
    predictions: int
    explained: int

    @property
    def share(self) -> float:
        """From 0 to 1; 1 without predictions."""
        return min(self.explained / self.predictions, 1.0) if self.predictions else 1.0

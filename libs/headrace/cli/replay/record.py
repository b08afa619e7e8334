"""One batch that was answered: what came, the feature values that were read for it, and what was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.columns import Batch, Column
from headrace.pipeline import ModelUse


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Rows of one run that were answered without errors. `features`: columns and annotations that the features stages gave, by
    name; `answer`: outputs, its rows are those of `inputs`; `models`: that ran."""

    inputs: Batch
    features: Mapping[str, Column]
    answer: Batch
    models: Sequence[ModelUse]

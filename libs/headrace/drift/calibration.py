"""Are the probabilities of a model what they say? Told from training or validation data, and kept in the baseline."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

_BINS = 20
# With a larger error, the model's own probabilities say little of its accuracy.
_MOST_ERROR = 0.05
_FEWEST_ROWS = 1000


class Calibration(BaseModel):
    """`probability`: the column that holds it; `error`: by how much probabilities and what happened differ, on average over rows
    (expected calibration error, 20 bins of equal width); `rows`: of how many rows it was told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probability: Annotated[str, Field(min_length=1, max_length=200)]
    error: float = Field(ge=0, le=1)
    rows: NonNegativeInt

    @property
    def holds(self) -> bool:
        """Whether the model is calibrated: its probabilities can be averaged to an expected accuracy."""
        return self.rows >= _FEWEST_ROWS and self.error <= _MOST_ERROR


def calibration_of(name: str, probabilities: NDArray[np.float64], truths: NDArray[np.bool_]) -> Calibration:
    """Of rows with a probability and what happened. Raises ValueError: a probability is not from 0 to 1."""
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("probabilities must be from 0 to 1")
    if not len(probabilities):
        return Calibration(probability=name, error=0.0, rows=0)
    bins = np.minimum((probabilities * _BINS).astype(np.intp), _BINS - 1)
    # Of each bin, the sum of what was said less the sum of what happened.
    apart = np.bincount(bins, probabilities - truths, _BINS)
    error = float(np.abs(apart).sum() / len(probabilities))
    return Calibration(probability=name, error=round(error, 6), rows=len(probabilities))

"""Occlusion of an image: how much the output changes when a patch of it is blank, for each patch of a grid.

M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks" (2014). Each patch alone is taken away, so the
patches do not sum up to the difference from the blank image: what is left, by which they act together, is one more contribution,
the *rest*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.explanations.coalitions import MOST_PLAYERS
from headrace.explanations.errors import ExplanationError
from headrace.explanations.shapley import Contributions, Floats, closed

# Patches along each side, so an explanation runs 51 images.
SIDE = 7
# Middle grey.
BLANK = 128


@dataclass(frozen=True, slots=True)
class Patches:
    """A grid over an image of so many pixels. Patches differ by at most one pixel in each direction."""

    height: int
    width: int
    rows: int = SIDE
    columns: int = SIDE

    def __post_init__(self) -> None:
        if not (0 < self.rows <= self.height and 0 < self.columns <= self.width):
            raise ExplanationError(
                "players",
                f"a grid of {self.rows} × {self.columns} patches does not fit {self.height} × {self.width} pixels",
            )
        if len(self) >= MOST_PLAYERS:
            raise ExplanationError(
                "players", f"{len(self)} patches; at most {MOST_PLAYERS - 1} are explained"
            )

    def __len__(self) -> int:
        return self.rows * self.columns

    def names(self, image: str) -> tuple[str, ...]:
        """Of each patch, `IMAGE[ROW,COLUMN]` from the upper left, row by row; and of the rest."""
        places = ((r, c) for r in range(self.rows) for c in range(self.columns))
        return (*(f"{image}[{r},{c}]" for r, c in places), f"{image}[rest]")

    def masks(self) -> NDArray[np.bool_]:
        """Which patches are seen, for each image that is asked: none, all but each one, all."""
        seen = np.ones((len(self) + 2, len(self)), bool)
        seen[0] = False
        seen[np.arange(1, len(self) + 1), np.arange(len(self))] = False
        return seen

    def images(self, pixels: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The image (height, width, channels) for each mask, blank where a patch is not seen."""
        down = np.arange(self.height) * self.rows // self.height
        right = np.arange(self.width) * self.columns // self.width
        patch = down[:, None] * self.columns + right[None, :]
        return np.where(masks[:, patch, None], pixels[None], np.uint8(BLANK))


def occluded(outputs: Floats) -> Contributions:
    """What each patch adds, and last the rest; `base` is the output of the blank image. `outputs`: in the order of `masks`.

    Raises ExplanationError if an output is not a finite number.
    """
    if not np.isfinite(outputs).all():
        raise ExplanationError("not_finite", "the output is not a finite number for some patches")
    base, value = float(outputs[0]), float(outputs[-1])
    added = value - outputs[1:-1]
    rest = math.fsum([value, -base, *(-added).tolist()])
    values = closed(np.append(added, rest), value - base)
    return Contributions(base, value, values, np.zeros_like(values), exact=True)

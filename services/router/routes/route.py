"""A route is one way through a pipeline; a rule deals the rows of a batch out among a pipeline's routes.

Each rule has a file of its own beside this one. Today every pipeline has one route, so there is no rule yet: `Compiler`
will choose it by what the document says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from headrace.pipeline import Plan
from services.router.stages.runner import StageRunner

if TYPE_CHECKING:
    from services.router.cache.route import CachedRoute


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One way through a pipeline: its plan, and what runs each stage of it."""

    name: str
    plan: Plan
    runners: tuple[StageRunner, ...]
    # How its answers are kept; None: they are not.
    cached: CachedRoute | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """The rows that take one route. `rows`: their positions, ascending; None = all of the batch."""

    route: Route
    rows: NDArray[np.intp] | None = None


class RouteRule(Protocol):
    """Chooses the route of each row."""

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        """The shares: disjoint, together all rows, none empty unless the batch is. Pure and quick."""
        ...

"""Which route each row of a batch takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from services.router.routes.run import Route


@dataclass(frozen=True, slots=True)
class Share:
    """The rows that take one route. `rows`: their positions, ascending; None = all of the batch."""

    route: Route
    rows: NDArray[np.intp] | None = None


class RouteChooser(Protocol):
    """Deals the rows of a batch out among the routes of a pipeline."""

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        """The shares: disjoint, together all rows, none empty unless the batch is. Pure and quick."""
        ...


class FirstRoute:
    """Every row takes the first route: for pipelines that have only one."""

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:  # noqa: ARG002 - the protocol's
        return (Share(routes[0]),)

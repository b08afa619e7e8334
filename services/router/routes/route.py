"""A route is one way through a pipeline; a rule deals the rows of a batch out among a pipeline's routes.

A route is an arm of the pipeline's release; `table.py` deals rows out as the release says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.pipeline import Plan
from services.router.stages.runner import Declared, StageRunner

if TYPE_CHECKING:
    from services.router.cache.route import CachedRoute


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One way through a pipeline: its plan, and what runs each stage of it. `name`: of the arm."""

    name: str
    plan: Plan
    runners: tuple[StageRunner, ...]
    # How its answers are kept; None: they are not.
    cached: CachedRoute | None = None
    # What a batch must have.
    inputs: Declared = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", Declared({f.name: f.type for f in self.plan.pipeline.inputs}))


@dataclass(frozen=True, slots=True)
class Choice:
    """Why rows took a route. `rule`: the name of the rule that decided; "": the weights. `sticky`: the row's key decided, so
    another row with this key takes the same route for as long as the weights stay."""

    rule: str = ""
    sticky: bool = False


_PLAIN = (Choice(),)


# Not frozen: creating it would take three times as long, and without a release one is made for each batch.
@dataclass(slots=True)
class Share:
    """The rows that take one route. `rows`: their positions, ascending; None = all of the batch.

    `chosen`: uint16 (rows of the share,), the index in `choices` of each row; None: all were chosen for the first.
    """

    route: Route
    rows: NDArray[np.intp] | None = None
    choices: tuple[Choice, ...] = _PLAIN
    chosen: NDArray[np.uint16] | None = None

"""Who sees the runs of live batches, and what they take of them: shadows and events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import mmh3
import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column
from services.router.routes.route import Route
from services.router.routes.run import RouteResult

if TYPE_CHECKING:
    from services.router.pipelines import Served
    from services.router.ticks.counters import Part

_UNIT = 2.0**-53
# Called when a run ends, with what came of it: its result, or what it raised.
Ended: TypeAlias = Callable[[RouteResult | BaseException], None]


class RunObserver(Protocol):
    """Sees the runs of live batches. It is in their way: it must be quick and never raise."""

    def begin(self, served: Served, route: Route, part: Part, began: float) -> Ended:
        """A run of these rows begins, whose first stage may have begun earlier, at `began` on the router's clock; what is
        returned is called when it ends."""
        ...


def chosen_rows(request_ids: Sequence[str], share: float, salt: str) -> NDArray[np.intp] | None:
    """Positions of the rows whose request is in the share (0 to 1); None: all. All rows of a request are, or none."""
    if share >= 1:
        return None
    seed = mmh3.hash(salt, signed=False)
    drawn: dict[str, bool] = {}
    found = []
    for row, request_id in enumerate(request_ids):
        wanted = drawn.get(request_id)
        if wanted is None:
            # As every assignment here: the first 53 bits of the hash as a number in [0, 1).
            u = (mmh3.hash64(request_id, seed, signed=False)[0] >> 11) * _UNIT
            wanted = drawn[request_id] = u < share
        if wanted:
            found.append(row)
    return np.array(found, np.intp)


def size_of(columns: Iterable[Column]) -> int:
    """Bytes of the columns' values."""
    return sum([c.values.nbytes for c in columns])

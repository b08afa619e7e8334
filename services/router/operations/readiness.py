"""A release serves only when the executor has its models: traffic never reaches a version that is still being loaded."""

from __future__ import annotations

from collections.abc import Callable

from headrace.hop.errors import Fault
from headrace.pipeline import ModelState
from headrace.releases.catalog import Released
from services.router.operations.clients import ModelOperations

_ASK_S = 2.0
_READY = frozenset({ModelState.ACTIVE, ModelState.ASLEEP})


class ModelReadiness:
    """Asks the executor. `clock`: monotonic seconds."""

    def __init__(self, models: ModelOperations, clock: Callable[[], float]) -> None:
        self._models = models
        self._clock = clock

    async def missing(self, wanted: Released, serving: Released) -> str:
        """What a release needs that the one that serves does not have, and that some replica has not ready; empty: nothing."""
        new = _models(wanted) - _models(serving)
        if not new:
            return ""  # a rollback, a change of weights: no question, so it works while the executor is away
        try:
            index = await self._models.index(self._clock() + _ASK_S)
        except Fault as fault:
            return f"the executor can't say whether it has the models: {fault.message}"
        states = {(m.name, m.version): m for m in index}
        found = []
        for pair in sorted(new):
            model = states.get(pair)
            if model is None or model.state not in _READY:
                state = (
                    "is not in the repository"
                    if model is None
                    else model.progress or model.state.name.lower()
                )
                found.append(f"model {pair[0]} version {pair[1]}: {state}")
        return "; ".join(found)


def _models(found: Released) -> set[tuple[str, str]]:
    """The models of all arms; labels load nothing."""
    return {pair for arm in found.release.arms.values() for pair in arm.models.items()}

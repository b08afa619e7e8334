"""What operators ask of the executors: each replica is asked, and what they say is made one answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace.hop.errors import Code, Fault
from headrace.pipeline import IndexedModel, ModelState
from services.router import errors
from services.router.ports import LoadedModel, Operators

Answer = TypeVar("Answer")
# How far a version is: of replicas that differ, the one that is least far counts.
_FAR = (ModelState.UNLOADED, ModelState.LOADING, ModelState.ASLEEP, ModelState.ACTIVE)


class Operating:
    """Loads and unloads models on every replica of the executor. Methods raise Fault."""

    def __init__(self, executors: Operators | None) -> None:
        self._executors = executors

    async def index(self, deadline: float) -> list[IndexedModel]:
        """Every version in the repository. Replicas that can't be asked raise nothing, as long as one answers."""
        answers = await self._ports.index(deadline)
        if not (good := [a for a in answers if not isinstance(a, Fault)]):
            raise _first_fault(answers)
        merged: dict[tuple[str, str], IndexedModel] = {}
        for model in (m for answer in good for m in answer):
            key = (model.name, model.version)
            if key not in merged or _FAR.index(model.state) < _FAR.index(merged[key].state):
                merged[key] = model
        return list(merged.values())

    async def load(self, model: str, version: str, operator: str, deadline: float) -> LoadedModel:
        """The version that serves now on every replica. One replica's refusal is the answer."""
        return _all(await self._ports.load(model, version, operator, deadline), lambda _: False)[0]

    async def unload(self, model: str, version: str, operator: str, deadline: float) -> list[str]:
        """The versions that are gone from every replica; a replica that had none is content."""
        answers = await self._ports.unload(model, version, operator, deadline)
        gone = _all(answers, lambda fault: fault.code is Code.NOT_FOUND)
        return list(dict.fromkeys(v for versions in gone for v in versions))

    @property
    def _ports(self) -> Operators:
        if self._executors is None:
            raise errors.no_executor()
        return self._executors


def _all(answers: Sequence[Answer | Fault], content: Callable[[Fault], bool]) -> list[Answer]:
    """The replies of replicas that did it. Raises the Fault of one that did not, but for those that are `content`."""
    good = [a for a in answers if not isinstance(a, Fault)]
    bad = [a for a in answers if isinstance(a, Fault) and not (good and content(a))]
    if not bad:
        return good
    raise bad[0] if not good else errors.not_everywhere(bad[0], len(good), len(answers))


def _first_fault(answers: Sequence[object]) -> Fault:
    return next(a for a in answers if isinstance(a, Fault))

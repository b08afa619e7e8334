"""Loads and unloads models on every replica of the executor; the replies of the replicas become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace.hop.errors import Code, Fault
from headrace.pipeline import IndexedModel, ModelState
from services.router import errors
from services.router.ports import ExecutorReplicas, LoadedModel

Reply = TypeVar("Reply")
# The steps towards serving: of replicas whose states differ, the one that is furthest back counts.
_PROGRESS = (ModelState.UNLOADED, ModelState.LOADING, ModelState.ASLEEP, ModelState.ACTIVE)


class ModelOperations:
    """Loads and unloads models on every replica of the executor. Methods raise Fault.

    `changed`: called after each load and unload, whatever came of it.
    """

    def __init__(self, replicas: ExecutorReplicas | None, changed: Callable[[], None] = lambda: None) -> None:
        self._replicas = replicas
        self._changed = changed

    async def index(self, deadline: float) -> list[IndexedModel]:
        """Every version in the repository. Raises Fault only if no replica answers."""
        answers = await self._replicas_or_fault.index(deadline)
        if not (good := [a for a in answers if not isinstance(a, Fault)]):
            raise _first_fault(answers)
        merged: dict[tuple[str, str], IndexedModel] = {}
        for model in (m for answer in good for m in answer):
            key = (model.name, model.version)
            if key not in merged or _PROGRESS.index(model.state) < _PROGRESS.index(merged[key].state):
                merged[key] = model
        return list(merged.values())

    async def load(self, model: str, version: str, operator: str, deadline: float) -> LoadedModel:
        """The version that serves now on every replica. Raises the Fault of a replica that refused."""
        try:
            answers = await self._replicas_or_fault.load(model, version, operator, deadline)
        finally:
            self._changed()
        return _all(answers, lambda _: False)[0]

    async def unload(self, model: str, version: str, operator: str, deadline: float) -> list[str]:
        """The versions that are gone from every replica. It is no failure that a replica had none loaded."""
        try:
            answers = await self._replicas_or_fault.unload(model, version, operator, deadline)
        finally:
            self._changed()
        gone = _all(answers, lambda fault: fault.code is Code.NOT_FOUND)
        return list(dict.fromkeys(v for versions in gone for v in versions))

    @property
    def _replicas_or_fault(self) -> ExecutorReplicas:
        if self._replicas is None:
            raise errors.no_executor()
        return self._replicas


def _all(answers: Sequence[Reply | Fault], ignored: Callable[[Fault], bool]) -> list[Reply]:
    """The replies of all replicas. Raises the Fault of one that failed, unless another succeeded and it is `ignored`."""
    good = [a for a in answers if not isinstance(a, Fault)]
    bad = [a for a in answers if isinstance(a, Fault) and not (good and ignored(a))]
    if not bad:
        return good
    raise bad[0] if not good else errors.not_everywhere(bad[0], len(good), len(answers))


def _first_fault(answers: Sequence[object]) -> Fault:
    return next(a for a in answers if isinstance(a, Fault))

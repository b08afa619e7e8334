"""What the store of releases says, kept for when it can't be reached; and changes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, TypeVar

from headrace.catalog.access import Position
from headrace.releases import Broken, Freeze, Release, ReleaseError, StaleError
from headrace.releases.changes import Basis, Documents, KnownModels, checked, differences
from headrace.releases.changes.differences import Difference
from headrace.releases.faults import refused
from headrace.releases.of_records import RecordReleases
from services.monitoring.console import faults
from services.monitoring.console.reach import Notices, Reach, notice

STORE, REPOSITORY = "the store of releases", "the model repository"
_UNLISTED = "The models can't be listed now, so it is not known whether all versions are still there."
T = TypeVar("T")
# What the next release is, of what is live, the history and whether all automation is frozen. Raises ReleaseError.
How: TypeAlias = Callable[[Basis, Sequence[Release], Freeze | None], Release]


@dataclass(frozen=True, slots=True)
class PipelineFacts:
    """What the store says of one pipeline. `history`: newest first, never empty; `slow_s`: what counts as slow."""

    name: str
    history: Sequence[Release]
    broken: Broken | None
    slow_s: float | None

    def basis(self) -> Basis:
        """What a change would start from."""
        newest = max(self.history[0].number, self.broken.number if self.broken else 0)
        return Basis(self.name, self.history[0], newest, "")


@dataclass(frozen=True, slots=True)
class Known:
    """What was read last. `unusable`: pipelines without any release that can be read; `at`: when, as ISO 8601 text."""

    pipelines: Sequence[PipelineFacts] = ()
    unusable: Sequence[Broken] = ()
    freeze: Freeze | None = None
    at: str = ""
    # Of the records then.
    seen: Position | None = None


class KnownReleases:
    """`slow_s`: what counts as slow under a release; `models`: what changes are checked against, blocks; None: it is not set."""

    def __init__(
        self,
        store: RecordReleases,
        slow_s: Callable[[Release], float | None],
        reach: Reach,
        models: Callable[[], KnownModels] | None = None,
    ) -> None:
        self._models = models
        self._store = store
        self._slow_s = slow_s
        self._reach = reach
        self._known = Known()

    async def current(self) -> tuple[Known, Notices]:
        """What the store says; if it can't be reached, what it said last. With notices."""
        notices: Notices = []
        self._known = await self._reach.attempt(STORE, self._reach.run(self._read), self._known, notices)
        if notices:
            if self._known.at:
                notices[0]["text"] += f" The releases below are those of {self._known.at[11:19]} UTC."
            return self._known, notices
        notices += [
            notice("bad", f"Pipeline {b.pipeline} has no release that can be used: {b.problem}")
            for b in self._known.unusable
        ]
        if (freeze := self._known.freeze) is not None:
            said = f"All automation is frozen by {freeze.author} ({freeze.reason}). People may still change everything."
            notices.append(notice("watch", said))
        return self._known, notices

    def find(self, name: str) -> PipelineFacts:
        """A pipeline of the last look. Raises Fault."""
        found = next((facts for facts in self._known.pipelines if facts.name == name), None)
        if found is None:
            raise faults.no_pipeline(name) if self._known.at else faults.unreachable(STORE)
        return found

    async def fresh(self, name: str) -> PipelineFacts:
        """What the store says now. Raises Fault."""

        def one() -> PipelineFacts | None:
            # A name of a request must not become part of a path unless it is one of ours.
            return self._one(name) if name in self._store.pipelines() else None

        found = await self._call(one)
        if found is None:
            raise faults.no_pipeline(name)
        return found

    async def frozen(self) -> Freeze | None:
        """Whether all automation is frozen. Raises Fault."""
        return await self._call(self._store.frozen)

    async def freeze(self, freeze: Freeze | None) -> None:
        """Stops all automation, or lets it go on. Raises Fault: nothing was changed."""
        await self._call(partial(self._store.freeze, freeze))

    async def problems(self, made: Release) -> Notices:
        """Warns of what would be refused if `made` were to become the current release. Raises Fault."""
        notices: Notices = []
        models = await self._known_models(notices)

        def check() -> Sequence[str]:
            try:
                checked(made, Documents(self._store, made.pipeline).text, models)
            except ReleaseError as error:
                return error.problems
            return ()

        return notices + [notice("bad", problem) for problem in await self._call(check)]

    async def change(
        self, name: str, how: How, expected: int, author: str, reason: str
    ) -> tuple[Release, Sequence[Difference]]:
        """Makes what `how` says the current release, if `expected` is still the newest one. Raises Fault: nothing was changed."""
        # While they can't be listed, a way back must be open all the same.
        models = await self._known_models([])
        return await self._call(partial(self._commit, name, how, expected, author, reason, models))

    def _read(self) -> Known:
        known, seen = self._known, self._store.records.position()
        if known.at and seen == known.seen:
            return replace(known, at=self._reach.at())
        found: list[PipelineFacts] = []
        unusable: list[Broken] = []
        for name in self._store.pipelines():
            facts = self._one(name)
            if facts is not None:
                found.append(facts)
            elif (broken := self._store.current(name)[1]) is not None:
                unusable.append(broken)
        return Known(found, unusable, self._store.frozen(), self._reach.at(), seen)

    def _one(self, name: str) -> PipelineFacts | None:
        history = self._store.history(name)
        if not history:
            return None
        return PipelineFacts(name, history, self._store.current(name)[1], self._slow_s(history[0]))

    def _commit(
        self, name: str, how: How, expected: int, author: str, reason: str, models: KnownModels | None
    ) -> tuple[Release, Sequence[Difference]]:
        store = self._store
        if name not in store.pipelines():
            raise faults.no_pipeline(name)
        basis = Basis.of(store, name, author, reason)
        if basis.newest != expected:
            raise StaleError(name, basis.newest, expected + 1)
        made = how(basis, store.history(name), store.frozen())
        changes = differences(basis.release, made)
        if not changes:
            raise faults.unchanged(name, basis.newest)
        checked(made, Documents(store, name).text, models)
        store.commit(made)
        return made, changes

    async def _known_models(self, notices: Notices) -> KnownModels | None:
        if self._models is None:
            return None
        return await self._reach.attempt(REPOSITORY, self._reach.run(self._models), None, notices, _UNLISTED)

    async def _call(self, call: Callable[[], T]) -> T:
        try:
            return await self._reach.need(STORE, self._reach.run(call))
        except ReleaseError as error:
            raise refused(error) from None

"""What the store of releases says, kept for when it is away; and changes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from headrace.catalog.access import Position
from headrace.releases import Broken, Freeze, Release, ReleaseError, StaleError
from headrace.releases.changes import Basis, Documents, KnownModels, checked, differences
from headrace.releases.changes.differences import Difference
from headrace.releases.faults import refused
from headrace.releases.of_records import RecordReleases
from services.monitoring.console import faults
from services.monitoring.console.threads import Threads
from services.monitoring.ports import Log

if TYPE_CHECKING:
    from services.monitoring.console.facts.models import ModelFacts

STORE = "the store of releases"
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


class Reach:
    """Says what can't be reached: in the log once while it stays the same, and on the page."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told: dict[str, str] = {}

    def away(self, what: str, error: OSError) -> dict[str, str]:
        """A notice for the page."""
        text = f"{type(error).__name__}: {error}"
        if self._told.get(what) != text:
            self._log.warning("the console can't reach something", what=what, error=text)
        self._told[what] = text
        said = f"{what[0].upper()}{what[1:]} can't be reached. What serves goes on; nothing can be changed there now."
        return notice("bad", said)

    def back(self, what: str) -> None:
        """It answers."""
        if self._told.pop(what, None) is not None:
            self._log.info("the console reaches it again", what=what)


class KnownReleases:
    """`slow_s`: what counts as slow under a release; `now`: the time as ISO 8601 text; `models`: changes are checked against."""

    def __init__(
        self,
        store: RecordReleases,
        slow_s: Callable[[Release], float | None],
        threads: Threads,
        reach: Reach,
        now: Callable[[], str],
        models: ModelFacts | None = None,
    ) -> None:
        self._models = models
        self._store = store
        self._slow_s = slow_s
        self._threads = threads
        self._reach = reach
        self._now = now
        self._known = Known()

    async def look(self) -> tuple[Known, list[dict[str, str]]]:
        """What the store says; if it is away, what it said last. With notices."""
        try:
            self._known = await self._threads.run(self._read)
        except OSError as error:
            told = self._reach.away(STORE, error)
            if self._known.at:
                told["text"] += f" The releases below are those of {self._known.at[11:19]} UTC."
            return self._known, [told]
        self._reach.back(STORE)
        notices = [
            notice("bad", f"Pipeline {b.pipeline} has no release that can be used: {b.problem}")
            for b in self._known.unusable
        ]
        return self._known, notices + _frozen(self._known.freeze)

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

    async def change(
        self, name: str, how: How, expected: int, author: str, reason: str
    ) -> tuple[Release, Sequence[Difference]]:
        """Makes what `how` says the current release, if `expected` is still the newest one. Raises Fault: nothing was changed."""
        return await self._call(partial(self._commit, name, how, expected, author, reason))

    def _read(self) -> Known:
        known, seen = self._known, self._store.records.position()
        if known.at and seen == known.seen:
            return replace(known, at=self._now())
        found: list[PipelineFacts] = []
        unusable: list[Broken] = []
        for name in self._store.pipelines():
            facts = self._one(name)
            if facts is not None:
                found.append(facts)
            elif (broken := self._store.current(name)[1]) is not None:
                unusable.append(broken)
        return Known(found, unusable, self._store.frozen(), self._now(), seen)

    def _one(self, name: str) -> PipelineFacts | None:
        history = self._store.history(name)
        if not history:
            return None
        return PipelineFacts(name, history, self._store.current(name)[1], self._slow_s(history[0]))

    def _commit(
        self, name: str, how: How, expected: int, author: str, reason: str
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
        checked(made, Documents(store, name).text, self._known_models())
        store.commit(made)
        return made, changes

    def _known_models(self) -> KnownModels | None:
        """None: they can't be listed now. A way back must be open all the same."""
        try:
            return self._models.known() if self._models is not None else None
        except OSError as error:
            self._reach.away("the model repository", error)
            return None

    async def _call(self, call: Callable[[], T]) -> T:
        try:
            return await self._threads.run(call)
        except ReleaseError as error:
            raise refused(error) from None
        except OSError as error:
            self._reach.away(STORE, error)
            raise faults.unreachable(STORE) from None


def notice(level: str, text: str) -> dict[str, str]:
    """A sentence at the top of a page."""
    return {"level": level, "text": text}


def _frozen(freeze: Freeze | None) -> list[dict[str, str]]:
    if freeze is None:
        return []
    said = (
        f"All automation is frozen by {freeze.author} ({freeze.reason}). People may still change everything."
    )
    return [notice("watch", said)]

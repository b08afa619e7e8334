"""Reads and changes releases in threads, since stores block. Knows no messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace.hop.errors import Code, Fault, Reason
from headrace.releases import Release, ReleaseError, ReleaseStore, StaleError
from headrace.releases.changes import Basis, Documents, KnownModels, checked, differences
from headrace.releases.changes.differences import Difference
from headrace.releases.faults import refused
from services.ingress.clients import HopModelOperations

T = TypeVar("T")
# Who sets no deadline waits no longer than that.
_PATIENCE_S = 30.0
# So long a way back waits for the list of models.
_URGENT_S = 3.0
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants a change and how. `expected`: number of the release that it is meant for; None: whichever is current. `urgent`: a
    way back, which must also be open while nobody can say which versions of models there are."""

    pipeline: str
    author: str
    reason: str = ""
    expected: int | None = None
    dry_run: bool = False
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """`release`: the current one afterwards, or what would be; `changed`: whether it was committed."""

    release: Release
    changed: bool
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class Place:
    """What a change is made of: the store, the current release, the documents, and the models that are known."""

    store: ReleaseStore
    basis: Basis
    documents: Documents
    known: KnownModels


# The release that a change makes; None: it is in force already.
How = Callable[[Place], Release | None]


class Desk:
    """`store` None: there are no releases here. `clock`: monotonic seconds. All methods raise Fault."""

    def __init__(
        self, store: ReleaseStore | None, models: HopModelOperations, log: Any, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._models = models
        self._log = log
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="releases")

    async def read(self, pipeline: str, how: Callable[[ReleaseStore], T], deadline: float) -> T:
        """The result of `how`, from a thread; `deadline`: monotonic seconds."""
        store = self._store
        if store is None:
            raise _no_store()
        left = max(min(deadline, self._clock() + _PATIENCE_S) - self._clock(), 0)
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._guarded, how, store)
        try:
            return await asyncio.wait_for(asyncio.shield(work), left)
        except TimeoutError:
            work.add_done_callback(_forget)
            message = "the time is over; a change may have been made nevertheless: look before trying again"
            about = {"pipeline": pipeline}
            raise Fault(
                Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message, metadata=about
            ) from None

    async def change(self, wish: Wish, how: How, deadline: float) -> Outcome:
        """Makes the change that `how` describes, or says what it would change."""
        if self._store is None:
            raise _no_store()
        known = await self._known(wish.urgent, deadline)
        return await self.read(wish.pipeline, lambda store: _change(store, wish, how, known), deadline)

    async def _known(self, urgent: bool, deadline: float) -> KnownModels | None:
        now = self._clock()
        try:
            index = await self._models.index(min(deadline, now + (_URGENT_S if urgent else _PATIENCE_S)))
        except Fault:
            if not urgent:
                raise
            self._log.warning("models can't be listed: a way back is not compared with them")
            return None
        versions: dict[str, list[str]] = {}
        for model in index:
            versions.setdefault(model.name, []).append(model.version)
        return KnownModels(versions)

    async def close(self) -> None:
        """Takes no more work; what a thread has begun, it ends."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    def _guarded(self, how: Callable[[ReleaseStore], T], store: ReleaseStore) -> T:
        try:
            return how(store)
        except ReleaseError as error:
            raise refused(error) from None
        except OSError as error:
            self._log.error("the store of releases can't be reached", error=str(error))
            # Where it is, and why, is in the log alone.
            message = "the store of releases can't be reached; nothing was changed, as far as can be known; look, then try again"
            raise Fault(Code.UNAVAILABLE, Reason.REASON_RELEASES_UNAVAILABLE, message) from None


def _change(store: ReleaseStore, wish: Wish, how: How, known: KnownModels | None) -> Outcome:
    """Raises ReleaseError, OSError."""
    basis = Basis.of(store, wish.pipeline, wish.author, wish.reason)
    if wish.expected is not None and wish.expected != basis.newest:
        raise StaleError(wish.pipeline, basis.newest, wish.expected + 1)
    documents = Documents(store, wish.pipeline)
    release = how(Place(store, basis, documents, known or KnownModels({})))
    changes = differences(basis.release, release) if release is not None else []
    if release is None or not changes:
        return Outcome(basis.current, False, [])
    checked(release, documents.text, known)
    if not wish.dry_run:
        store.commit(release, documents.new)
    return Outcome(release, not wish.dry_run, changes)


def _forget(work: asyncio.Future[Any]) -> None:
    # Its caller has gone: an exception that nobody asks for would be reported as a bug.
    if not work.cancelled():
        work.exception()


def _no_store() -> Fault:
    """This door serves documents, not releases."""
    message = "this installation has no store of releases; set `control`"
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_RELEASES_UNAVAILABLE, message)

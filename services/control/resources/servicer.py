"""ResourcesService: messages → feed and followers → messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from headrace.api.control.v1 import resources_pb2 as pb
from headrace.catalog.access import Position
from headrace.catalog.errors import RecordsError, RecordsUnavailableError, Unavailable
from headrace.catalog.faults import fault_of
from headrace.catalog.messages import position_message, position_of
from headrace.hop.call import Call
from headrace.resources.snapshot import Key, Resource
from services.control import errors
from services.control.head import ANSWER_S, MAX_WAIT_S, Head
from services.control.identity import Identities
from services.control.records.limits import MAX_NUMBER
from services.control.resources.feed import Feed, Part, Published
from services.control.resources.followers import MAX_FOLLOWERS, Follower, Followers, Rejected

_PAGE_BYTES = 1 << 20
# A cursor is a position's number and the count of its resources that were sent: so many bits are the count's.
_COUNT_BITS = 20
_COUNT = (1 << _COUNT_BITS) - 1
_MAX_NAME, _HEAD_BYTES = 200, 32
_MAX_REJECTED, _MAX_PASSED_ON, _MAX_PROBLEM = 1000, 100, 500
# Who was first with a change must still be there so long after it began to serve by it: by then a poison has ended it.
_SOAK_S = 0.1
# One that has diverged asks again and again; it need not be answered sooner.
_DIVERGED_S = 0.5


class ResourcesServicer:
    """Serves headrace.api.control.v1.ResourcesService. `settled`: see RecordsServicer; `clock`: monotonic seconds."""

    def __init__(
        self,
        head: Head,
        feed: Feed,
        followers: Followers,
        identities: Identities,
        settled: asyncio.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._head = head
        self._feed = feed
        self._followers = followers
        self._identities = identities
        self._settled = settled
        self._clock = clock
        self._acknowledged = asyncio.Event()
        self._ended = asyncio.Event()

    def end_waits(self) -> None:
        """Who waits is answered now, and nobody waits any more."""
        self._ended.set()

    async def Watch(self, request: pb.WatchRequest, call: Call) -> pb.WatchResponse:
        self._identities.check_watch(call.peer, request.service)
        _check(request)
        until = min(self._clock() + min(request.wait_ms / 1000, MAX_WAIT_S), call.deadline - ANSWER_S)
        try:
            while (found := await self._answer(request, until)) is None:
                continue
            return found
        except RecordsError as error:
            raise fault_of(error) from None
        except (OSError, ValueError) as error:
            why = f"what is live can't be signed now ({type(error).__name__})"
            raise fault_of(RecordsUnavailableError(Unavailable.UNREACHABLE, why)) from None
        finally:
            self._followers.answered(request.service, request.watcher)

    async def ListWatchers(self, _request: pb.ListWatchersRequest, call: Call) -> pb.ListWatchersResponse:
        self._identities.check_change(call.peer)
        now, newest = self._clock(), self._feed.newest
        return pb.ListWatchersResponse(
            watchers=[_watcher(found, now) for found in self._followers.all()],
            position=position_message(newest.position) if newest else None,
        )

    async def _answer(self, request: pb.WatchRequest, until: float) -> pb.WatchResponse | None:
        """None: all that was found out does not count any more."""
        history = self._feed.history
        if (newest := await self._loaded(until)) is None:
            raise self._head.problem
        have = position_of(request.have) if request.HasField("have") else None
        problem = "" if have is None else await self._feed.problem_of(have)
        newest = self._feed.newest or newest
        follower = Follower(
            request.watcher,
            request.service,
            have,
            tuple(Rejected(r.kind, r.name, r.sha256, r.problem, r.crashed) for r in request.rejected),
            request.ready,
            diverged=problem,
        )
        if not self._followers.heard(follower):
            raise errors.too_large("watcher", MAX_FOLLOWERS + 1, MAX_FOLLOWERS)
        soaked = self._clock() + _SOAK_S
        if (
            have == newest.position
            and soaked <= until
            and not any(rejected.pending for rejected in request.rejected)
            and not self._followers.is_acknowledged(request.service, have)
        ):
            # Ended by its caller's end, this acknowledges nothing.
            await asyncio.sleep(_SOAK_S)
            if self._followers.acknowledge(request.service, have):
                self._acknowledged.set()
                self._acknowledged = asyncio.Event()
        if have is None:
            await _first_of([self._settled], until)
            if not self._settled.is_set():
                return pb.WatchResponse()
            # What a new process would get may be older than what the others serve by.
            problem = self._followers.refusal()
        if problem:
            await asyncio.sleep(min(_DIVERGED_S, max(0.0, until - self._clock())))
            return pb.WatchResponse(diverged=problem)
        # Of an epoch that has ended nothing may be left, unless it is in the history too.
        is_known = have is not None and await self._feed.has(have)
        return await self._changes(request, have if is_known else None, until, history)

    async def _changes(
        self, request: pb.WatchRequest, have: Position | None, until: float, history: int
    ) -> pb.WatchResponse | None:
        """`have`: in the feed's `history`; None: the whole part is needed. Returns None once the database has another history."""
        service, whole = request.service, request.whole or have is None
        if (older := self._feed.at(request.page_after >> _COUNT_BITS)) is not None:
            return self._page(request, older, have, whole, request.page_after & _COUNT)
        while history == self._feed.history:
            changed, acknowledged = self._feed.changed, self._acknowledged
            newest = self._feed.newest
            assert newest is not None, "it was loaded"
            wanted = whole or have != newest.position
            # What does not change its part needs nobody to go first.
            same = not whole and have is not None and newest.parts[service].number <= have.number
            if wanted and (same or self._may_apply(request, newest)):
                return self._page(request, newest, have, whole)
            if self._clock() >= until or self._ended.is_set():
                return self._held(request, newest, have) if wanted else pb.WatchResponse()
            if wanted:
                ends = min(until, self._followers.first_until(service))
                await _first_of([changed, acknowledged, self._ended], ends)
            else:
                await _first_of([changed, self._ended], until)
        return None

    def _may_apply(self, request: pb.WatchRequest, newest: Published) -> bool:
        urgent = self._head.seen.urgent if self._head.seen else 0
        return self._followers.may_apply(request.service, request.watcher, newest.position, urgent)

    def _page(
        self,
        request: pb.WatchRequest,
        published: Published,
        have: Position | None,
        whole: bool,
        first: int = 0,
    ) -> pb.WatchResponse:
        """The page that begins with the resource `first`."""
        part = published.parts[request.service]
        resources = part.whole() if whole or have is None else part.since(have.number)
        page, after = _page_of(resources, first)
        signed = self._feed.signed(published, request.service, have)
        cursor = published.position.number << _COUNT_BITS | after
        return pb.WatchResponse(
            manifest=signed.raw,
            signature=signed.signature,
            resources=page,
            whole=whole,
            page=cursor if after < len(resources) else 0,
            may_apply=True,
            rejected=self._rejected(request, part),
        )

    def _rejected(self, request: pb.WatchRequest, part: Part) -> list[pb.RejectedResource]:
        """What ended others, of what is in the part now, each once."""
        there = part.snapshot.resources
        found = {
            (rejected.kind, rejected.name): rejected
            for rejected in self._followers.crashed(request.service, request.watcher)
            if (known := there.get((rejected.kind, rejected.name))) and known.sha256 == rejected.sha256
        }
        return [_rejected(one) for one in found.values()][:_MAX_PASSED_ON]

    def _held(
        self, request: pb.WatchRequest, published: Published, have: Position | None
    ) -> pb.WatchResponse:
        """There is something new, and others go first."""
        signed = self._feed.signed(published, request.service, have)
        return pb.WatchResponse(manifest=signed.raw, signature=signed.signature)

    async def _loaded(self, until: float) -> Published | None:
        while (newest := self._feed.newest) is None and self._clock() < until:
            await _first_of([self._feed.changed], until)
        return newest


def _check(request: pb.WatchRequest) -> None:
    """Raises Fault."""
    if not 0 < len(request.watcher) <= _MAX_NAME or not request.watcher.isprintable():
        raise errors.malformed("watcher", f"1 to {_MAX_NAME} printable characters")
    have = request.have
    if request.HasField("have") and (
        max(have.epoch, have.number) > MAX_NUMBER or len(have.head) != _HEAD_BYTES
    ):
        raise errors.malformed("have", f"a position, with a head of {_HEAD_BYTES} bytes")
    if len(request.rejected) > _MAX_REJECTED:
        raise errors.too_large("rejected", len(request.rejected), _MAX_REJECTED)


def _page_of(resources: Sequence[tuple[Key, Resource | None]], first: int) -> tuple[list[pb.Resource], int]:
    """As many as fit into a page from `first` on, at least one, and the count of those before the next page."""
    page: list[pb.Resource] = []
    left = _PAGE_BYTES
    for (kind, name), found in resources[first:]:
        message = pb.Resource(kind=kind, name=name)
        if found is not None:
            message.sha256, message.version, message.content = found.sha256, found.version, found.content
        left -= len(message.content) + len(name) + 100
        if page and left < 0:
            break
        page.append(message)
    return page, first + len(page)


def _rejected(found: Rejected) -> pb.RejectedResource:
    return pb.RejectedResource(
        kind=found.kind,
        name=found.name,
        sha256=found.sha256,
        problem=found.problem[:_MAX_PROBLEM],
        crashed=found.crashed,
    )


def _watcher(found: Follower, now: float) -> pb.Watcher:
    return pb.Watcher(
        watcher=found.name,
        service=found.service,
        have=None if found.have is None else position_message(found.have),
        age_s=max(0.0, now - found.asked),
        rejected=map(_rejected, found.rejected),
        ready=found.ready,
        diverged=bool(found.diverged),
    )


async def _first_of(events: Sequence[asyncio.Event], until: float) -> None:
    """Returns when one of them is set, at the latest at `until`."""
    left = until - time.monotonic()
    if left <= 0:
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

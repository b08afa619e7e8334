"""What a follower asks next, and what it makes of the answer. Pure: no clock, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from headrace.api.control.v1.records_pb2 import Position as PositionMessage
from headrace.api.control.v1.resources_pb2 import RejectedResource, WatchRequest, WatchResponse
from headrace.resources.manifest import (
    ManifestError,
    PartError,
    SignedManifest,
    VerifiedPart,
    Verifier,
    descends,
)
from headrace.resources.snapshot import Key, Resource, Snapshot, is_name, part_of

# What a control that never ends its pages can make a process hold.
MAX_RESOURCES = 200_000
MAX_BYTES = 1 << 28


class Next(Enum):
    """What an answer means."""

    APPLY = auto()  # a newer part is complete and proven
    CONTINUE = auto()  # there are more pages
    NOTHING = auto()  # nothing has changed
    HOLD = auto()  # others go first
    REFUSE = auto()  # the answer is unusable
    DIVERGED = auto()  # control has something else, which does not descend from what this process has


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an answer. `part`: with APPLY; `problem`: with REFUSE and DIVERGED."""

    next: Next
    problem: str = ""
    part: VerifiedPart | None = None


class _Pages:
    """The pages of one position so far."""

    def __init__(self, signed: SignedManifest, whole: bool) -> None:
        self.signed = signed
        self.whole = whole
        self.cursor = 0
        self.written: list[Resource] = []
        self.deleted: list[Key] = []
        self._bytes = 0
        self._seen: set[Key] = set()

    def add(self, response: WatchResponse) -> None:
        """Raises PartError."""
        if response.page and (response.page <= self.cursor or not response.resources):
            raise PartError("the pages do not go on")
        self.cursor = response.page
        for found in response.resources:
            key = found.kind, found.name
            if not all(map(is_name, key)) or key in self._seen:
                raise PartError(f"{found.kind!r} {found.name!r} is no name, or there twice")
            self._seen.add(key)
            if not found.HasField("content"):
                self.deleted.append(key)
                continue
            if hashlib.sha256(found.content).digest() != found.sha256:
                raise PartError(f"{found.kind} {found.name}: its content does not have its hash")
            self._bytes += len(found.content)
            self.written.append(Resource(*key, found.sha256, found.version, found.content))
        if len(self._seen) > MAX_RESOURCES or self._bytes > MAX_BYTES:
            raise PartError("the pages are larger than any part may be")

    def part(self, have: VerifiedPart | None) -> VerifiedPart:
        """Raises PartError."""
        base = Snapshot() if self.whole or have is None else have.snapshot
        if self.whole and self.deleted:
            raise PartError("a whole part deletes nothing")
        return VerifiedPart.of(self.signed, base.changed(self.written, self.deleted))


class FollowerState:
    """Follows one service's part for the process `watcher`. `part`: what it has; None: nothing yet."""

    def __init__(
        self, watcher: str, service: str, verifier: Verifier, part: VerifiedPart | None = None
    ) -> None:
        self.part = part
        self._watcher = watcher
        self._service = service
        self._verifier = verifier
        self._supports = sorted(part_of(service))
        self._pages: _Pages | None = None
        # Changes alone did not give the part of the manifest.
        self._wants_whole = False

    def request(self, wait_s: float, rejected: Iterable[RejectedResource], *, ready: bool) -> WatchRequest:
        """What to ask now."""
        message = WatchRequest(
            watcher=self._watcher,
            service=self._service,
            page_after=self._pages.cursor if self._pages else 0,
            rejected=rejected,
            wait_ms=0 if self._pages else int(wait_s * 1000),
            supports=self._supports,
            ready=ready,
            whole=self._wants_whole,
        )
        if self.part is not None:
            at = self.part.position
            message.have.CopyFrom(PositionMessage(epoch=at.epoch, number=at.number, head=at.head))
        return message

    def failed(self) -> None:
        """There was no answer. Another control may give other pages, so those so far are dropped."""
        self._pages = None

    def offer(self, part: VerifiedPart) -> bool:
        """Whether it is newer than what the process has, and descends from it: it counts as had then."""
        if self.part is not None and not (
            part.position != self.part.position and descends(self.part.position, part.signed.manifest)
        ):
            return False
        self.part, self._pages = part, None
        return True

    def receive(self, response: WatchResponse) -> Outcome:
        """What an answer means; if it is APPLY, `part` is the new one. Never raises."""
        pages, self._pages = self._pages, None
        if response.diverged:
            return Outcome(Next.DIVERGED, response.diverged)
        if not response.manifest:
            return Outcome(Next.NOTHING) if pages is None else Outcome(Next.REFUSE, "the pages broke off")
        try:
            signed = self._verifier.open(response.manifest, response.signature, self._service)
            return self._received(response, signed, pages)
        except ManifestError as error:
            return Outcome(Next.REFUSE, str(error))

    def _received(self, response: WatchResponse, signed: SignedManifest, pages: _Pages | None) -> Outcome:
        have, manifest = self.part, signed.manifest
        if not descends(have.position if have else None, manifest):
            assert have is not None, "everything descends from nothing"
            at, own = manifest.position, have.position
            problem = f"control has {at.epoch}.{at.number}, which does not descend from {own.epoch}.{own.number} here"
            return Outcome(Next.DIVERGED, problem)
        if have and (manifest.position, manifest.digest) == (have.position, have.signed.manifest.digest):
            self._wants_whole = False
            return Outcome(Next.NOTHING)
        if not response.may_apply:
            return Outcome(Next.HOLD)
        if pages is None:
            if have is None and not response.whole:
                raise PartError("only changes came, and there is nothing that they change")
            pages = _Pages(signed, response.whole)
        elif (pages.signed.manifest.position, pages.whole) != (manifest.position, response.whole):
            return Outcome(Next.REFUSE, "the position changed between two pages")
        pages.add(response)
        if response.page:
            self._pages = pages
            return Outcome(Next.CONTINUE)
        try:
            part = pages.part(have)
        except PartError:
            self._wants_whole = not pages.whole
            raise
        self.part, self._wants_whole = part, False
        return Outcome(Next.APPLY, part=part)

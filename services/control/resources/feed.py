"""What each service follows, as the newest position has it. Kept once for all who follow; only the newest counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from headrace.catalog.access import Position, Record
from headrace.catalog.records import CatalogRecords
from headrace.resources.manifest import ANCESTORS, Manifest, SignedManifest
from headrace.resources.snapshot import PARTS, Key, Resource, Snapshot, part_of

SERVICES = tuple(sorted({service for services in PARTS.values() for service in services}))


@dataclass(frozen=True, slots=True)
class Part:
    """A service's part at a position. `changed`: number of the change that wrote or deleted each resource that ever was."""

    service: str
    snapshot: Snapshot
    changed: Mapping[Key, int]
    digest: bytes
    # Number of the newest change of the part.
    number: int

    @classmethod
    def empty(cls, service: str) -> Part:
        snapshot = Snapshot()
        return cls(service, snapshot, MappingProxyType({}), snapshot.digest(), 0)

    def after(self, records: Sequence[Record]) -> Part:
        """With what changed meanwhile."""
        kinds = part_of(self.service)
        own = [record for record in records if record.kind in kinds]
        if not own:
            return self
        written = [Resource.of(r.kind, r.name, r.content, r.version) for r in own if r.content is not None]
        deleted = [(r.kind, r.name) for r in own if r.content is None]
        snapshot = self.snapshot.changed(written, deleted)
        changed = {**self.changed, **{(r.kind, r.name): r.number for r in own}}
        newest = max(r.number for r in own)
        return Part(self.service, snapshot, MappingProxyType(changed), snapshot.digest(), newest)

    def since(self, number: int) -> list[tuple[Key, Resource | None]]:
        """What changed after `number`, the oldest first; None: it was deleted."""
        keys = sorted((n, key) for key, n in self.changed.items() if n > number)
        return [(key, self.snapshot.resources.get(key)) for _, key in keys]

    def whole(self) -> list[tuple[Key, Resource | None]]:
        """All that there is."""
        return [(key, self.snapshot.resources[key]) for key in sorted(self.snapshot.resources)]


@dataclass(frozen=True, slots=True)
class Published:
    """All parts at one position. `ancestors`: the newest positions before it and those that began an epoch, oldest first."""

    position: Position
    parts: Mapping[str, Part]
    ancestors: tuple[Position, ...]

    def after(
        self, position: Position, records: Sequence[Record], ancestors: Sequence[Position]
    ) -> Published:
        """At another position."""
        parts = {service: part.after(records) for service, part in self.parts.items()}
        return Published(position, MappingProxyType(parts), tuple(ancestors))

    def manifest(self, service: str, at: datetime, have: Position | None = None) -> Manifest:
        """What is signed for a service. `have`: of who asks, which is in this history."""
        part, newest = self.parts[service], self.position
        before = tuple((p.number, p.head) for p in self.ancestors if p.number < newest.number)[-ANCESTORS:]
        after = None if have is None else (have.number, have.head)
        begins = tuple(
            p for i, p in enumerate(self.ancestors) if i == 0 or self.ancestors[i - 1].epoch != p.epoch
        )
        needed = after is not None and after not in before
        return Manifest(
            service,
            newest,
            part.digest,
            len(part.snapshot.resources),
            at,
            before,
            begins,
            after if needed else None,
        )


EMPTY = Published(
    Position(0, 0, b""), MappingProxyType({service: Part.empty(service) for service in SERVICES}), ()
)
# Positions whose pages are given to those that began with them.
_OLDER = 4
# Signed manifests, and positions that were found in the history.
_MAX_SIGNED, _MAX_PROVEN = 1000, 10_000


class Feed:
    """Follows the records; used on one event loop.

    `history`: raises RecordsError while there is none. `now`: for manifests. `sign`: raises ValueError or OSError.
    """

    def __init__(
        self,
        history: Callable[[], CatalogRecords],
        threads: ThreadPoolExecutor,
        sign: Callable[[Manifest], SignedManifest],
        now: Callable[[], datetime],
    ) -> None:
        self._history = history
        self._threads = threads
        self._sign = sign
        self._now = now
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        # Rises when the database has another history than before.
        self.history = 0
        # The newest is the last.
        self._published: dict[int, Published] = {}
        self._signed: dict[tuple[Position, str, Position | None], SignedManifest] = {}
        # Positions that were found in the history; it only grows.
        self._proven: set[Position] = set()

    @property
    def newest(self) -> Published | None:
        """None: nothing was read yet."""
        return next(reversed(self._published.values()), None)

    @property
    def changed(self) -> asyncio.Event:
        """Set when there is another position; then another event takes its place."""
        return self._changed

    def at(self, number: int) -> Published | None:
        """One of the newest positions by its number."""
        return self._published.get(number)

    async def read(self) -> Published:
        """Reads what changed. Raises RecordsError."""
        async with self._reading:
            known = self.newest or EMPTY
            loop = asyncio.get_running_loop()
            found, continued = await loop.run_in_executor(self._threads, self._read, known)
            if not continued:
                self.history += 1
                self._published.clear()
                self._proven.clear()
                self._signed.clear()
            if found is not known:
                self._published[found.position.number] = found
                while len(self._published) > _OLDER:
                    del self._published[next(iter(self._published))]
                self._changed.set()
                self._changed = asyncio.Event()
            return found

    def signed(self, published: Published, service: str, have: Position | None) -> SignedManifest:
        """The manifest for who has `have`. Raises OSError, ValueError."""
        recent = have is None or have in published.ancestors
        key = (published.position, service, None if recent else have)
        if (found := self._signed.get(key)) is None:
            if len(self._signed) >= _MAX_SIGNED:
                self._signed.clear()
            found = self._signed[key] = self._sign(published.manifest(service, self._now(), key[2]))
        return found

    async def has(self, have: Position) -> bool:
        """Whether a position is in the history of the database. Raises RecordsError."""
        newest = self.newest
        if newest is None or have.number > newest.position.number:
            newest = await self.read()  # another process of control may have gone on
        if have == newest.position or have in newest.ancestors or have in self._proven:
            return True
        loop = asyncio.get_running_loop()
        head = await loop.run_in_executor(self._threads, lambda: self._history().head_at(have.number))
        if head != have.head:
            return False
        if len(self._proven) >= _MAX_PROVEN:
            self._proven.clear()
        self._proven.add(have)
        return True

    async def problem_of(self, have: Position) -> str:
        """Why what somebody has does not belong to this history; "": it does, or people have begun a new one since. Raises
        RecordsError."""
        if await self.has(have) or (newest := self.newest) is None or have.epoch < newest.position.epoch:
            return ""
        own, at = f"{have.epoch}.{have.number}", newest.position
        return f"{own} is not in the history of the database, whose newest is {at.epoch}.{at.number}"

    def _read(self, known: Published) -> tuple[Published, bool]:
        """What is published now, and whether what is known belongs to its history."""
        history = self._history()
        position, records = history.changes_since(known.position.number, PARTS.keys())
        if position == known.position:
            return known, True
        continued = True
        if known.position.number and history.head_at(known.position.number) != known.position.head:
            # The database was emptied or went back: nothing of what is known counts.
            known, continued = EMPTY, False
            position, records = history.changes_since(0, PARTS.keys())
        ancestors = history.ancestors(ANCESTORS + 1)
        before = [p for p in ancestors if p.number <= position.number]
        return known.after(position, records, before), continued

"""The audit beside releases in Redis: one hash chain for all machines that change them.

Each line is appended by compare-and-set on the hash of the one before. Each machine also keeps the lines that it wrote in its own
file, with their hashes here: so what is altered or removed here afterwards shows there, even if the chain was made whole again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from headrace.releases import redis_scripts
from headrace.releases.redis import RedisReleases
from headrace.state import chain

# Lines that Redis keeps, of about 500 bytes. Older ones are in the files of those who wrote them.
KEPT = 10_000
# Each time somebody else was first.
_ATTEMPTS = 200
_PAUSE_S = 0.01


class Place(NamedTuple):
    """Where a line is: its number from 1, and its hash."""

    number: int
    sha256: str


class Line(NamedTuple):
    """A line and where it is."""

    place: Place
    entry: dict[str, Any]


class SharedChain:
    """The audit of the releases in `store`. Threads, processes and machines may append at the same time. It is closed with it."""

    def __init__(self, store: RedisReleases, kept: int = KEPT) -> None:
        self._store = store
        self._kept = kept
        self._keys = [f"{store.tag}:audit", f"{store.tag}:audit:head"]
        self._record = store.client.register_script(redis_scripts.RECORD)

    def append(self, entry: Mapping[str, object]) -> Place:
        """Appends a line. Raises OSError; then it may have been appended nevertheless, as an answer can be lost."""
        for _ in range(_ATTEMPTS):
            with self._store.reached():
                last = (self._store.client.hget(self._keys[1], "last") or b"").decode("latin-1")
                line = chain.linked(entry, last or chain.FIRST)
                place = chain.hash_of(line)
                number = int(self._record(keys=self._keys, args=[last, line, place, self._kept]))
            if number:
                return Place(number, place)
            time.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311 - spreads those who append at once
        raise OSError(f"the audit in Redis: others were first {_ATTEMPTS} times; try again")

    def head(self) -> str:
        """The hash of the last line, "" if there is none. Raises OSError."""
        with self._store.reached():
            return (self._store.client.hget(self._keys[1], "last") or b"").decode("latin-1")

    def newest(self, most: int) -> tuple[list[tuple[Place, bytes]], Place]:
        """Up to `most` (at least 1) of the last lines as they are, unchecked, oldest first; and the last place, as Redis says it.

        Raises OSError.
        """
        with self._store.reached():
            pipeline = self._store.client.pipeline(transaction=True)
            lines, head = pipeline.lrange(self._keys[0], -most, -1).hgetall(self._keys[1]).execute()
        count, last = head.get(b"count", b"0"), head.get(b"last", b"").decode("latin-1")
        number = int(count) if count.isdigit() else 0
        first = number - len(lines) + 1
        return [(Place(n, chain.hash_of(line)), line) for n, line in enumerate(lines, first)], Place(
            number, last
        )

    def lines(self) -> Iterator[Line]:
        """The lines that are kept, oldest first. Raises ValueError if the chain is broken, OSError."""
        with self._store.reached():
            pipeline = self._store.client.pipeline(transaction=True)
            lines, head = pipeline.lrange(self._keys[0], 0, -1).hgetall(self._keys[1]).execute()
        last = head.get(b"last", b"").decode("latin-1")
        count = head.get(b"count", b"0")
        first = (int(count) if count.isdigit() else 0) - len(lines) + 1
        where = "the audit in Redis"
        if first < 1 or (first > 1 and len(lines) < self._kept):
            raise ValueError(
                f"{where}: it has {len(lines)} lines, and {count.decode('latin-1')} were written"
            )
        before = chain.FIRST if first == 1 else None
        place = Place(0, "")
        entries = chain.checked(lines, where, before, first)
        for number, (line, entry) in enumerate(zip(lines, entries, strict=True), first):
            place = Place(number, chain.hash_of(line))
            yield Line(place, entry)
        if place.sha256 != last:
            raise ValueError(f"{where}: its last line was altered or removed")

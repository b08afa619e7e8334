"""What is live in the artifact store (a folder or a bucket), where control writes it for processes that can't reach it.

resources/SERVICE/manifest   the signed manifest with the names and hashes of its resources
resources/objects/HASH       their contents
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from headrace.repository.storage.store import Store
from headrace.resources.disk import MAX_CONTENT_BYTES
from headrace.resources.manifest import MAX_LISTING_BYTES, VerifiedPart, Verifier, from_listing, to_listing

_OBJECTS = "resources/objects"
# A bucket answers one read within 20 ms or so, and a part has a thousand contents.
_READERS = 16


def read_artifacts(store: Store, verifier: Verifier, service: str) -> VerifiedPart:
    """What control wrote last. Raises OSError, ManifestError."""

    def read(hashes: list[bytes]) -> Iterable[bytes]:
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(lambda h: store.read(f"{_OBJECTS}/{h.hex()}", MAX_CONTENT_BYTES), hashes))

    return from_listing(store.read(_manifest(service), MAX_LISTING_BYTES), verifier, service, read)


class ArtifactWriter:
    """The side of control. `clock`: monotonic seconds. Contents that no manifest names any more are deleted after `grace_s`, when
    nobody reads by an older manifest."""

    def __init__(self, store: Store, clock: Callable[[], float], grace_s: float = 3600.0) -> None:
        self._store = store
        self._clock = clock
        self._grace_s = grace_s
        self._named: dict[str, frozenset[str]] = {}
        self._unused: dict[str, float] = {}

    def write(self, part: VerifiedPart) -> None:
        """Makes it what a process of the service starts by. Raises OSError."""
        service = part.signed.manifest.service
        contents = {r.sha256.hex(): r.content for r in part.snapshot.resources.values()}
        for name in sorted(contents.keys() - self._there()):
            self._store.replace(f"{_OBJECTS}/{name}", contents[name])
        self._store.replace(_manifest(service), to_listing(part))
        self._named[service] = frozenset(contents)

    def sweep(self, services: Iterable[str]) -> None:
        """Deletes what has not been named for a while, once the part of each of `services` was written. Raises OSError."""
        if not set(services) <= self._named.keys():
            return
        now, named = self._clock(), frozenset[str]().union(*self._named.values())
        self._unused = {name: self._unused.get(name, now) for name in self._there() - named}
        for name, since in self._unused.items():
            if now - since >= self._grace_s:
                self._store.remove(f"{_OBJECTS}/{name}")

    def _there(self) -> set[str]:
        with suppress(FileNotFoundError):
            return set(self._store.files(_OBJECTS))
        return set()


def _manifest(service: str) -> str:
    return f"resources/{service}/manifest"

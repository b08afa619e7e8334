"""Writes what the data plane follows into the artifact store, for starts without control. What is there is a witness as well: a
database that has less was emptied, or is yesterday's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from headrace.catalog.access import Position
from headrace.catalog.errors import RecordsError
from headrace.repository.storage.store import Store
from headrace.resources.artifacts import ArtifactWriter
from headrace.resources.manifest import MAX_LISTING_BYTES, ManifestError, VerifiedPart, Verifier
from services.control.health import Failed
from services.control.resources.feed import SERVICES, Feed, Published
from services.control.resources.followers import Follower, Followers
from services.control.resources.key_file import KeyFile

NAME = "the artifact store"
# After a failure, and how often it is looked at without a change: another control may have written something older.
_AGAIN_S, _LOOK_S = 2.0, 20.0


class Artifacts:
    """Used on one event loop. `clock`: monotonic seconds. `checked`: set once it was looked at, or could not be."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        followers: Followers,
        key: KeyFile,
        failed: Failed,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._writer = ArtifactWriter(store, clock)
        self._feed = feed
        self._followers = followers
        self._key = key
        self._failed = failed
        self.checked = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "artifacts")

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            changed = self._feed.changed
            pause_s = _LOOK_S
            if (newest := self._feed.newest) is not None:
                try:
                    await self._write(newest)
                    self._failed(None)
                except (OSError, ValueError, RecordsError) as error:
                    self._failed(error)
                    pause_s = _AGAIN_S
                self.checked.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await changed.wait()

    def close(self) -> None:
        """Waits for nothing: what is under way is done as a whole, or not at all."""
        self._thread.shutdown(wait=False)

    async def _write(self, newest: Published) -> None:
        """Raises OSError, ValueError, RecordsError."""
        # A bucket that hangs holds its own thread up, and neither the event loop nor the end of the process.
        loop, thread = asyncio.get_running_loop(), self._thread
        verifier = Verifier([self._key.public()])
        for service in SERVICES:
            there = await loop.run_in_executor(thread, self._position, verifier, service)
            problem = "" if there is None else await self._feed.problem_of(there)
            self._followers.heard(Follower(NAME, f"artifacts/{service}", there, diverged=problem))
            at = newest.position
            older = there is None or (there.epoch, there.number) < (at.epoch, at.number)
            if not problem and older:
                signed = self._feed.signed(newest, service, None)
                part = VerifiedPart.of(signed, newest.parts[service].snapshot)
                await loop.run_in_executor(thread, self._writer.write, part)
        await loop.run_in_executor(thread, self._writer.sweep, SERVICES)

    def _position(self, verifier: Verifier, service: str) -> Position | None:
        """Of what is there; None: nothing that this key signed. Raises OSError."""
        try:
            listing = json.loads(self._store.read(f"resources/{service}/manifest", MAX_LISTING_BYTES))
            raw, signature = listing["manifest"].encode(), bytes.fromhex(listing["signature"])
            return verifier.open(raw, signature, service).manifest.position
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, ManifestError):
            return None

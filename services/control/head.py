"""The newest position, followed by one thread of the process; who waits for another one takes none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from headrace.catalog.access import Position, Records
from headrace.catalog.errors import RecordsError, RecordsUnavailableError, Unavailable

# One look of the thread takes so long at most.
_LOOK_S = 5.0
# Calls that wait are answered after so long at the latest, and so long before their deadline.
MAX_WAIT_S, ANSWER_S = 30.0, 0.05
# After a failure of the database.
_AGAIN_S = 0.2
# Last word of the actions that take something back: they wait for nobody.
_URGENT = frozenset({"rollback", "revoke", "remove", "freeze"})
# Lines that are looked at for these; who is so far behind is told of the others by the next change.
_MAX_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A position. `changed_at`: when it was made; None: nothing was ever changed. `urgent`: number of the newest change that goes
    to all processes at once; 0: none that this process knows."""

    position: Position
    changed_at: datetime | None = None
    urgent: int = 0


class Head:
    """Used on one event loop. `failed`: hears what is wrong with the database, None once it is well."""

    def __init__(self, records: Callable[[], Records], failed: Callable[[RecordsError | None], None]) -> None:
        """`records`: opens the database if that has not been done; blocks, raises RecordsUnavailableError."""
        self._records = records
        self._failed = failed
        self._stopped = self._ended = False
        self._changed = asyncio.Event()
        self.seen: Seen | None = None
        self.problem: RecordsError = RecordsUnavailableError(
            Unavailable.UNREACHABLE, "the database has not been read yet; try again in a moment"
        )

    async def follow(self) -> None:
        """Until it is cancelled."""
        thread = ThreadPoolExecutor(1, "head")
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    found = await loop.run_in_executor(thread, self._newest, self.seen)
                except Exception as error:  # noqa: BLE001 - whatever it is, the next look may be better
                    if self._stopped:
                        return
                    self.problem = _problem(error)
                    self._failed(self.problem)
                    await asyncio.sleep(_AGAIN_S)
                    continue
                self._failed(None)
                if found is not self.seen:
                    self.seen = found
                    self._changed.set()
                    self._changed = asyncio.Event()
        finally:
            await asyncio.to_thread(thread.shutdown)

    def end_waits(self) -> None:
        """Callers that wait are answered now, and none waits any more."""
        self._ended = True
        self._changed.set()
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """The database is closed next."""
        self._stopped = True

    async def wait(self, known: Position | None, until: float, *, caller: bool = False) -> Seen:
        """As soon as it differs from `known`; at the latest at `until`, in monotonic seconds. Raises RecordsError: the database
        was never read. `caller`: for a call, which ends when the process is to stop."""
        while True:
            if self.seen is not None and self.seen.position != known:
                return self.seen
            left = until - time.monotonic()
            if left <= 0 or (caller and self._ended):
                break
            changed = self._changed
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                break
        if self.seen is None:
            raise self.problem
        return self.seen

    def _newest(self, known: Seen | None) -> Seen:
        records = self._records()
        if known is None:
            return seen_of(records, records.position())
        position = records.wait(known.position, _LOOK_S)
        return known if position == known.position else seen_of(records, position, known)


def _problem(error: Exception) -> RecordsError:
    if isinstance(error, RecordsError):
        return error
    return RecordsUnavailableError(Unavailable.DAMAGED, f"the records can't be read: {type(error).__name__}")


def seen_of(records: Records, position: Position, known: Seen | None = None) -> Seen:
    """`known`: what was seen before. Blocks."""
    again = known is None or known.position.number >= position.number
    after = position.number - 1 if again or known is None else known.position.number
    changed_at, urgent = None, 0 if known is None else known.urgent
    for line in islice(records.lines(after), _MAX_LINES):
        about = json.loads(line.line)
        if line.number <= position.number:
            changed_at = datetime.fromisoformat(about["at"])
            urgent = line.number if about["action"].rpartition(".")[2] in _URGENT else urgent
    return Seen(position, changed_at, urgent)

"""The security log: refused credentials and forbidden requests, in a separate file. Every event is written or counted there.

Each event is a line of JSON, up to a limit per second. All further events of that second share one summary line, which says how
many there were of each kind and from how many addresses. So every event is counted in the file, and no caller can fill the disk.
While the file can't be written, events that do not fit into memory are counted in the same way.

All processes of the machine write to the same file. A batch of lines is appended as a whole under a lock, and made durable
(fsync) before the next batch. A crash of the machine loses the events after the last batch: half a second at most. A file that
exceeds its maximum size is renamed to FILE.1 under the same lock, FILE.1 to FILE.2, and so on.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from services.ingress.request_context import RequestContext

# Event lines per second. All further events of that second share one line.
_LINES_PER_S = 50
# Lines that wait while the file can't be written. Further events go into the summary, which then covers more than a second.
_WAITING = 2_000
# Number of addresses that a summary distinguishes, and number of addresses that it names.
_ADDRESSES, _NAMED = 1_024, 10
_MAX_TEXT = 256
# Another process holds the lock only for one batch.
_LOCK_WAIT_S, _LOCK_POLL_S = 2.0, 0.005


@dataclass(slots=True)
class _Summary:
    """Events that have no separate line."""

    since: float
    until: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    addresses: Counter[str] = field(default_factory=Counter)
    more_addresses: bool = False

    def add(self, now: float, kind: str, address: str) -> None:
        self.until = now
        self.kinds[kind] += 1
        if address in self.addresses or len(self.addresses) < _ADDRESSES:
            self.addresses[address] += 1
        else:
            self.more_addresses = True

    def line(self) -> bytes:
        return _line(
            {
                "time": _time(self.until),
                "since": _time(self.since),
                "kind": "summary",
                "events": dict(self.kinds),
                "addresses": len(self.addresses),
                "more_addresses": self.more_addresses,
                "most": dict(self.addresses.most_common(_NAMED)),
            }
        )


class SecurityLog:
    """Takes events on the event loop and writes them in a thread. `wall`: seconds since the epoch.

    `path` None: there is no file, and nothing is written. `complain` is called with the error when writing fails, and with
    None when writing works again.
    """

    def __init__(
        self,
        path: Path | None,
        max_bytes: int,
        kept: int,
        wall: Callable[[], float],
        complain: Callable[[BaseException | None], None],
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._wall = wall
        self._complain = complain
        self._failing = False
        self._lines: list[bytes] = []
        self._summary: _Summary | None = None
        self._second, self._in_second = 0, 0
        self._writing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Number of events that are not in the file yet."""
        return len(self._lines) + (sum(self._summary.kinds.values()) if self._summary else 0)

    def add(self, kind: str, context: RequestContext, details: Mapping[str, str]) -> None:
        """Records one event."""
        if self._path is None:
            return
        now, address = self._wall(), client_address(context)
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
            self._end_summary(now)
        self._in_second += 1
        if self._in_second > _LINES_PER_S or len(self._lines) >= _WAITING:
            if self._summary is None:
                self._summary = _Summary(now)
            self._summary.add(now, kind, address)
            return
        credential = context.credential
        event = {
            "time": _time(now),
            "kind": kind,
            "client": address,
            "tenant": context.tenant,
            "key": "" if credential is None else credential.key_id,
            "request_id": context.request_id,
            "method": context.method,
        }
        event |= {name: value for name, value in details.items() if not event.get(name)}
        self._lines.append(_line({k: v[:_MAX_TEXT] for k, v in event.items()}))

    def _end_summary(self, now: float, *, closing: bool = False) -> None:
        """Turns the summary into a line when its second is over. While nothing can be written, the summary continues."""
        summary = self._summary
        if summary is None or len(self._lines) >= _WAITING:
            return
        if closing or int(summary.until) != int(now):
            self._lines.append(summary.line())
            self._summary = None

    async def flush(self) -> None:
        """Writes the events so far. Events that can't be written are kept."""
        async with self._writing:
            self._end_summary(self._wall())
            await self._write()

    async def close(self) -> None:
        """Writes all events so far, also those of the second that is not over."""
        async with self._writing:
            await self._write()
            self._end_summary(self._wall(), closing=True)
            await self._write()
            if self.waiting:
                self._complain(OSError(f"{self.waiting} events end with this process"))

    async def _write(self) -> None:
        if self._path is None or not self._lines:
            return
        lines, self._lines = self._lines, []
        writing = asyncio.ensure_future(asyncio.to_thread(self._append, self._path, b"".join(lines)))
        cancelled = False
        while not writing.done():
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                cancelled = True  # first find out whether the batch was written
        if (error := writing.exception()) is not None:
            self._lines = lines + self._lines
        if (error is not None) != self._failing:
            self._failing = error is not None
            self._complain(error)
        if cancelled:
            raise asyncio.CancelledError

    def _append(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(lock)
            with suppress(FileNotFoundError):
                if path.stat().st_size >= self._max_bytes:
                    _rotate(path, self._kept)
            _append(path, data)
        finally:
            os.close(lock)


def client_address(context: RequestContext) -> str:
    """The client address of a request as Envoy saw it; "" if the request did not come through Envoy.

    Envoy appends the address of its peer to `x-forwarded-for` (`use_remote_address`). The text before it was sent by the
    caller, who can write anything there.
    """
    sent = context.headers.get(b"x-forwarded-for", b"")
    return sent.rpartition(b",")[2].strip().decode("latin-1")[:64]


def _take(lock: int) -> None:
    """Waits for the other processes. Raises OSError if one of them does not release the lock in time."""
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        start = os.fstat(descriptor).st_size
        if start == 0:
            _sync_names(path.parent)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            # The disk became full and only a part was written. Remove it: the whole batch is written again later.
            os.ftruncate(descriptor, start)
            raise
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    """Makes the names of new and renamed files durable, so that they exist after a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rotate(path: Path, kept: int) -> None:
    for number in range(kept - 1, 0, -1):
        with suppress(FileNotFoundError):
            Path(f"{path}.{number}").replace(f"{path}.{number + 1}")
    path.replace(f"{path}.1")


def _line(event: Mapping[str, object]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

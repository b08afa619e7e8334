"""Security events in a file that all processes of a machine share: each has a line of its own, or is counted in a summary.

A line of JSON tells of one event, up to a limit for each kind. Beyond it all events of a second share summary lines, which name
every client's address with how many events of each kind it caused. So every event is in the file with its address, and nobody
fills the disk by repetition. While the file can't be written, events that do not fit into memory are counted in the same way, and
addresses beyond a limit are then counted without being named (`more_addresses`).
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headrace.hop.resilience.limiter import TokenBucket

# Lines of single events of one kind: so many at once, then one a second. The audit log keeps an entry of each for ever, and a
# flood of one kind must not hide who did something of another.
_BURST, _LINES_PER_S = 50.0, 1.0
# Lines that wait while the file can't be written. Further events go into the summary, which then covers more than a second.
WAITING = 2_000
# Number of addresses that a summary names; further ones get another summary. And number of those that it shows first.
_ADDRESSES, _NAMED = 1_024, 10
_MAX_TEXT, _MAX_ADDRESS = 256, 64


@dataclass(slots=True)
class _Summary:
    """Events that have no separate line."""

    since: float
    until: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    addresses: Counter[str] = field(default_factory=Counter)
    clients: dict[str, Counter[str]] = field(default_factory=dict)
    more_addresses: bool = False

    def full(self, address: str) -> bool:
        """Whether this address can't be named any more."""
        return len(self.addresses) >= _ADDRESSES and address not in self.addresses

    def add(self, now: float, kind: str, address: str) -> None:
        self.until = now
        self.kinds[kind] += 1
        if self.full(address):
            self.more_addresses = True
            return
        self.addresses[address] += 1
        self.clients.setdefault(address, Counter())[kind] += 1

    def line(self, about: Mapping[str, str]) -> bytes:
        return _line(
            {
                "time": _time(self.until),
                "since": _time(self.since),
                "kind": "summary",
                **about,
                "events": dict(self.kinds),
                "addresses": len(self.addresses),
                "more_addresses": self.more_addresses,
                "most": dict(self.addresses.most_common(_NAMED)),
                "clients": self.clients,
            }
        )


class SecurityEvents:
    """Makes lines of events. `wall`: seconds since 1970; `about`: what each summary says of who wrote it.

    One thread may add while another takes.
    """

    def __init__(self, wall: Callable[[], float], about: Mapping[str, str] | None = None) -> None:
        self._wall = wall
        self._about = about or {}
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._summary: _Summary | None = None
        self._second = 0
        # By kind, of which there are few.
        self._budgets: dict[str, TokenBucket] = {}

    @property
    def waiting(self) -> int:
        """Number of lines that were not taken yet, and of events that have none yet."""
        return len(self._lines) + (sum(self._summary.kinds.values()) if self._summary else 0)

    def add(self, kind: str, client: str, details: Mapping[str, str]) -> None:
        """One event. `details` hold no secret."""
        with self._lock:
            self._add(kind, client, details)

    def _add(self, kind: str, client: str, details: Mapping[str, str]) -> None:
        now, client = self._wall(), client[:_MAX_ADDRESS]
        if int(now) != self._second:
            self._second = int(now)
            self._end_summary(now)
        budget = self._budgets.get(kind)
        if budget is None:
            budget = self._budgets[kind] = TokenBucket(_LINES_PER_S, _BURST, now)
        if len(self._lines) >= WAITING or budget.take(now) > 0.0:
            self._summarise(now, kind, client)
            return
        event = {"time": _time(now), "kind": kind, "client": client}
        event |= {name: value for name, value in details.items() if name not in event}
        self._lines.append(_line({k: v[:_MAX_TEXT] for k, v in event.items()}))

    def take(self, *, closing: bool = False) -> list[bytes]:
        """The lines so far, which the caller writes. `closing`: also of the second that is not over."""
        with self._lock:
            self._end_summary(self._wall(), closing=closing)
            lines, self._lines = self._lines, []
        return lines

    def put_back(self, lines: Sequence[bytes]) -> None:
        """Lines that could not be written; they come first the next time."""
        with self._lock:
            self._lines = [*lines, *self._lines]

    def _summarise(self, now: float, kind: str, address: str) -> None:
        """An event without a line of its own."""
        if self._summary is not None and self._summary.full(address) and len(self._lines) < WAITING:
            self._lines.append(self._summary.line(self._about))
            self._summary = None
        if self._summary is None:
            self._summary = _Summary(now)
        self._summary.add(now, kind, address)

    def _end_summary(self, now: float, *, closing: bool = False) -> None:
        """Turns the summary into a line when its second is over. While nothing can be written, the summary continues."""
        summary = self._summary
        if summary is None or len(self._lines) >= WAITING:
            return
        if closing or int(summary.until) != int(now):
            self._lines.append(summary.line(self._about))
            self._summary = None


def _line(event: Mapping[str, object]) -> bytes:
    # So that the hash of a line says nothing once the line is erased (audit/erasure.py).
    salted = {**event, "salt": secrets.token_hex(16)}
    return json.dumps(salted, separators=(",", ":")).encode() + b"\n"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

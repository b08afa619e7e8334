"""Whether two processes read one monotonic clock, so that what a message waited on its way can be known.

A deadline travels as remaining time, which a receiver counts from the moment it reads it. A message may have waited long
before that, in the socket of a process that was stopped: its rows would be worked on when nobody waits for them any more.
So a sender adds the instant of sending, on its monotonic clock, and the name of that clock. A receiver with the same clock
counts from that instant. One with another clock counts from when it read, as if there were no instant: wall clocks of two
machines may differ by more than a deadline is long, and would shorten or stretch it without anybody's noticing.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

# In the metadata of an RPC and the first metadata of an exchange: the sender's clock.
CLOCK_KEY = "headrace-clock"
# In the metadata of an RPC: its instant of sending and its time left then, in microseconds: "123456789 1000000".
SENT_KEY = "headrace-sent"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/time")


@functools.cache
def clock() -> str:
    """Name of this process's monotonic clock: equal where, and only where, it is the same. Empty: unknown.

    The clock is the kernel's, from one boot to the next, but a container may have a time namespace with an offset.
    """
    try:
        boot = _BOOT.read_text().strip()
        namespace = str(_NAMESPACE.readlink()) if _NAMESPACE.is_symlink() else ""
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:16] if boot else ""


def is_ours(name: str | None) -> bool:
    """Whether a sender's clock is this process's."""
    return bool(name) and name == clock()


def stamp(sent: float, deadline: float) -> tuple[tuple[str, str], ...]:
    """The metadata of an RPC sent at `sent`; both in monotonic seconds. Nothing if the clock is unknown."""
    name = clock()
    if not name:
        return ()
    return (CLOCK_KEY, name), (SENT_KEY, f"{round(sent * 1e6)} {round((deadline - sent) * 1e6)}")


def read(name: str | None, sent: str | None, now: float) -> tuple[float, float] | None:
    """Instant of sending and deadline, in monotonic seconds, that an RPC's metadata says; None: nothing to be relied on."""
    if sent is None or not is_ours(name):
        return None
    parts = sent.split(" ")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts):
        return None
    began = min(int(parts[0]) / 1e6, now)
    return began, began + int(parts[1]) / 1e6

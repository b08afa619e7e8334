"""Whether two processes use the same monotonic clock, so that the time a message waited in transit can be measured.

A deadline is sent as remaining time, and a receiver counts it from when it reads the message. But the message may have
waited long before, in the socket of a stopped process; its rows would then be processed although no caller waits any more.
So a sender adds the time of sending on its monotonic clock, and the name of that clock. A receiver with the same clock
counts from that time. A receiver with another clock counts from when it read the message. Wall clocks are not used: those
of two machines may differ by more than a deadline, and would shorten or extend it unnoticed.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

# In the metadata of an RPC and the first metadata of a stream: the sender's clock.
CLOCK_KEY = "headrace-clock"
# In the metadata of an RPC: the time of sending and the time left then, in microseconds: "123456789 1000000".
SENT_KEY = "headrace-sent"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/time")


@functools.cache
def clock() -> str:
    """Name of this process's monotonic clock: equal names mean the same clock. Empty: unknown.

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
    """The metadata of an RPC sent at `sent`; both in monotonic seconds. Empty if the clock is unknown."""
    name = clock()
    if not name:
        return ()
    return (CLOCK_KEY, name), (SENT_KEY, f"{round(sent * 1e6)} {round((deadline - sent) * 1e6)}")


def read(name: str | None, sent: str | None, now: float) -> tuple[float, float] | None:
    """Time of sending and deadline from an RPC's metadata, in monotonic seconds; None: missing or not reliable."""
    if sent is None or not is_ours(name):
        return None
    parts = sent.split(" ")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts):
        return None
    began = min(int(parts[0]) / 1e6, now)
    return began, began + int(parts[1]) / 1e6

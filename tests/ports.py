"""Ports for servers that tests start."""

import fcntl
import os
import random
import socket
import tempfile
from collections import deque
from pathlib import Path

# Below those that the kernel gives to outgoing connections (32768 and up by default): one of these may take a port between the
# moment at which it was found free and the moment at which a server binds it, or while a server is away. Above those of homes
# (`prepared.own_ports`).
FIRST, LAST = 31_800, 32_700
# Of one process; the one that was asked for first is given up.
_KEPT = 150
_random = random.SystemRandom()
_kept: deque[int] = deque()


def free_ports(count: int) -> list[int]:
    """Ports of this machine's own address that nobody listens at, and that no other process of tests was given."""
    folder = Path(tempfile.gettempdir()) / f"headrace-tests-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found: list[int] = []
    while len(found) < count:
        port = _random.randint(FIRST, LAST)
        # Locked for as long as this process lives, so that the others look further.
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(lock)
            continue
        found.append(port)
        _kept.append(lock)
        if len(_kept) > _KEPT:
            os.close(_kept.popleft())
    return found


def free_port() -> int:
    """One of these."""
    return free_ports(1)[0]

"""Leases, so that one analyser acts and another takes over when it dies: a lock on one machine, a key in Redis for several."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import Any, Protocol

# Long enough for a slow round, short enough that a rollout is not long without an analyser.
LEASE_MS = 5000


class FileLease:
    """A lock on a file. The kernel gives it back when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def hold(self) -> bool:
        """See ports.Lease."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """See ports.Lease."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class RedisClient(Protocol):
    """The part of redis-py's blocking client that is used here. Its errors of connection must be OSErrors."""

    def set(self, name: str, value: str, *, nx: bool, px: int) -> Any: ...
    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any: ...


# Both act only if the key still has our token: a lease that ran out may be another's.
_PROLONG = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class RedisLease:
    """A key that expires after `lease_ms` unless it is prolonged. A holder that stalls for longer may act beside the next one:
    the compare-and-set of releases then lets only one of both win."""

    def __init__(self, client: RedisClient, key: str, lease_ms: int = LEASE_MS) -> None:
        self._client = client
        self._key = key
        self._lease_ms = lease_ms
        self._token = secrets.token_hex(16)

    def hold(self) -> bool:
        """See ports.Lease."""
        if self._client.eval(_PROLONG, 1, self._key, self._token, self._lease_ms):
            return True
        return bool(self._client.set(self._key, self._token, nx=True, px=self._lease_ms))

    def release(self) -> None:
        """See ports.Lease."""
        self._client.eval(_RELEASE, 1, self._key, self._token)

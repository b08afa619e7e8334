"""Lease and evidence in Redis, for the analysers of several machines.

The client should have a short timeout (TIMEOUT_S): the next look at rollouts, half a second later, tries again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from services.monitoring.rollouts.handover_files import parsed

# Long enough for a slow round, short enough that a rollout is not long without an analyser.
LEASE_MS = 5000
# Of each call. A holder that can't prolong knows it long before its lease ends.
TIMEOUT_S = 1.0
# Longer than any rollout waits for a person over a weekend.
_KEPT_S = 7 * 86400
_IS_MINE = "redis.call('get', KEYS[1]) == ARGV[1]"
# Taken again with the same token, as the answer to the first time may have been lost.
_TAKE = f"""
if {_IS_MINE} then return redis.call('pexpire', KEYS[1], ARGV[2]) end
if redis.call('exists', KEYS[1]) == 1 then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1
"""
_PROLONG = f"if {_IS_MINE} then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = f"if {_IS_MINE} then return redis.call('del', KEYS[1]) end return 0"
_SAVE = f"if {_IS_MINE} then redis.call('set', KEYS[2], ARGV[2], 'ex', ARGV[3]) return 1 end return 0"
T = TypeVar("T")


class RedisLease:
    """A key that expires after `lease_ms` unless it is prolonged. Each time that it is taken it has another token, a fence: Redis
    refuses what its holder writes with the token of a lease that has ended."""

    def __init__(self, client: Redis, key: str, lease_ms: int = LEASE_MS) -> None:
        self._client: Any = client
        self._key = key
        self._lease_ms = lease_ms
        self._token = secrets.token_hex(16)
        self._held = False

    @property
    def fence(self) -> tuple[str, str]:
        """The key, and the value that it has while this lease is held."""
        return self._key, self._token

    def hold(self) -> bool:
        """See ports.Lease. A lease that has ended is not taken again at once: its holder must first forget what it knew."""
        script = _PROLONG if self._held else _TAKE
        mine = bool(_reached(lambda: self._client.eval(script, 1, *self.fence, self._lease_ms)))
        if self._held and not mine:
            self._forget()
        else:
            self._held = mine
        return mine

    def release(self) -> None:
        """See ports.Lease."""
        fence = self.fence
        self._forget()
        _reached(lambda: self._client.eval(_RELEASE, 1, *fence))

    def _forget(self) -> None:
        self._held = False
        self._token = secrets.token_hex(16)


class RedisEvidence:
    """The key PREFIX + pipeline. Only the holder of `lease` can save."""

    def __init__(self, client: Redis, prefix: str, lease: RedisLease) -> None:
        self._client: Any = client
        self._prefix = prefix
        self._lease = lease

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """See ports.EvidenceStore."""
        content = _reached(lambda: self._client.get(self._prefix + pipeline))
        return None if content is None else parsed(content)

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """See ports.EvidenceStore. OSError, too, if the lease has ended."""
        content = json.dumps(values, allow_nan=False).encode()
        lease, token = self._lease.fence
        keys = lease, self._prefix + pipeline
        if not _reached(lambda: self._client.eval(_SAVE, 2, *keys, token, content, _KEPT_S)):
            raise OSError("the lease has ended, so the evidence of its next holder stays")


def _reached(call: Callable[[], T]) -> T:
    """Raises OSError for whatever keeps Redis from doing it."""
    try:
        return call()
    except RedisError as error:
        raise OSError(f"Redis: {error}") from error

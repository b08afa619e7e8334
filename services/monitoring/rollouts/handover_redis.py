"""Lease and evidence in Redis, for the analysers of several machines.

The client should have short timeouts and no retries: the next look at rollouts, a second later, tries again.
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
# Longer than any rollout waits for a person over a weekend.
_KEPT_S = 7 * 86400
# Both act only if the key still has our token: a lease that ran out may be another's.
_PROLONG = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
T = TypeVar("T")


class RedisLease:
    """A key that expires after `lease_ms` unless it is prolonged. A holder that stalls for longer may act beside the next one:
    the compare-and-set of releases then lets only one of both win."""

    def __init__(self, client: Redis, key: str, lease_ms: int = LEASE_MS) -> None:
        self._client: Any = client
        self._key = key
        self._lease_ms = lease_ms
        self._token = secrets.token_hex(16)

    def hold(self) -> bool:
        """See ports.Lease."""
        if _reached(lambda: self._client.eval(_PROLONG, 1, self._key, self._token, self._lease_ms)):
            return True
        return bool(_reached(lambda: self._client.set(self._key, self._token, nx=True, px=self._lease_ms)))

    def release(self) -> None:
        """See ports.Lease."""
        _reached(lambda: self._client.eval(_RELEASE, 1, self._key, self._token))


class RedisEvidence:
    """The key PREFIX + pipeline."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """See ports.EvidenceStore."""
        content = _reached(lambda: self._client.get(self._prefix + pipeline))
        return None if content is None else parsed(content)

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """See ports.EvidenceStore."""
        content = json.dumps(values, allow_nan=False).encode()
        _reached(lambda: self._client.set(self._prefix + pipeline, content, ex=_KEPT_S))


def _reached(call: Callable[[], T]) -> T:
    """Raises OSError for whatever keeps Redis from doing it."""
    try:
        return call()
    except RedisError as error:
        raise OSError(f"Redis: {error}") from error

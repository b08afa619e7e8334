"""Where idempotency keys are kept, and how many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from headrace.hop.config import Settings
from headrace.state.redis import RedisCalls
from services.ingress.idempotency.redis import RedisKeys
from services.ingress.idempotency.sqlite import SqliteKeys
from services.ingress.idempotency.store import KeyStore


class Idempotency(Settings):
    """Without `file` and `redis` each process keeps its own keys, and loses them when it ends."""

    # A file that all doors of one machine share; it is made when it is not there.
    file: Path | None = None
    # Such as redis://HOST:6379/0 or rediss://USER:PASSWORD@HOST:6380/0: for the doors of several machines.
    redis: str = ""
    # A call of Redis that takes longer is given up; a call with a key is then refused, one without is not concerned.
    timeout_s: PositiveFloat = 0.5
    # How long the outcome of a call is kept. Clients rely on a day.
    kept_s: float = Field(default=86_400.0, ge=1)
    # The key of a call whose door was killed is free after this time.
    lease_s: float = Field(default=5.0, ge=0.1, le=300)
    # Of one tenant. A call with a further key is refused: to forget an older one early would break its promise.
    max_keys: PositiveInt = 100_000
    max_bytes: PositiveInt = 256 * 1024 * 1024

    @model_validator(mode="after")
    def _one_place(self) -> Idempotency:
        if self.file is not None and self.redis:
            raise ValueError("name either `file` or `redis`: a key is kept in one place")
        return self

    def store(self, clock: Callable[[], float], wall: Callable[[], float]) -> KeyStore:
        """The store. `clock`: monotonic seconds; `wall`: since the epoch. Raises ConfigError."""
        if self.redis:
            return RedisKeys(RedisCalls(self.redis, self.timeout_s, clock), self, wall)
        return SqliteKeys(self.file, self, wall)

"""Answers that several routers keep together in Redis. While Redis is gone, the models answer: nothing waits, nothing fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from pydantic import PositiveFloat

from headrace.api.router.v1 import router_pb2
from headrace.columns import decode_columns, encode_columns
from headrace.hop.config import Settings
from headrace.hop.errors import Fault
from headrace.pipeline import ModelUse
from headrace.state.redis import RedisCalls, RedisDownError
from services.router.cache.meter import CacheMetrics
from services.router.cache.rows import Answer, answers_of, columns_of, fields_of

_MAGIC = b"hra2"
_NAME = b"headrace:answer:"


class CacheSettings(Settings):
    """Where answers are kept besides this process."""

    # Such as redis://HOST:6379/0 or rediss://USER:PASSWORD@HOST:6380/0. Empty: each router keeps its own answers only.
    redis: str = ""
    # A call that takes longer is given up, and for a second nobody asks.
    timeout_s: PositiveFloat = 0.05


class SharedAnswers:
    """`clock`: monotonic seconds."""

    def __init__(self, calls: RedisCalls, meter: CacheMetrics) -> None:
        self._calls = calls
        self._meter = meter

    async def get(self, keys: Sequence[bytes], kept_s: float) -> dict[bytes, tuple[Answer, float]]:
        """The answers that are there, each with its age in seconds. What can't be read is not there."""
        commands: list[tuple[Any, ...]] = []
        for key in keys:
            commands += [("GET", _name(key)), ("PTTL", _name(key))]
        replies = await self._ask(commands)
        found = {}
        for i, key in enumerate(keys):
            text, left_ms = replies[2 * i : 2 * i + 2] if replies else (None, 0)
            answer = load(text) if isinstance(text, bytes) else None
            if answer is not None and isinstance(left_ms, int) and left_ms >= 0:
                found[key] = answer, max(kept_s - left_ms / 1000, 0.0)
        return found

    async def put(self, answers: Sequence[tuple[bytes, Answer]], kept_s: float) -> None:
        """Keeps answers that were computed just now."""
        kept_ms = max(int(kept_s * 1000), 1)
        await self._ask([("SET", _name(key), dump(answer), "PX", kept_ms) for key, answer in answers])

    async def close(self) -> None:
        await self._calls.close()

    async def _ask(self, commands: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        if not commands:
            return ()
        try:
            return await self._calls.ask(commands)
        except RedisDownError as error:
            if error.asked:
                self._meter.store_failed()
            return ()


def _name(key: bytes) -> bytes:
    return _NAME + hashlib.sha256(key).hexdigest().encode()


def dump(answer: Answer) -> bytes:
    """A magic number, then the reply of a router for one row."""
    models = [
        router_pb2.ModelUse(
            stage=m.stage, model=m.model, version=m.version, sha256=m.sha256, backend=m.backend
        )
        for m in answer.models
    ]
    reply = router_pb2.InferResponse(decisions=[router_pb2.Decision(models=models)])
    reply.batch.columns.extend(encode_columns(columns_of([answer])))
    return _MAGIC + reply.SerializeToString()


def load(data: bytes) -> Answer | None:
    """The inverse; None for anything else: whoever writes there, the router only ever takes what fits."""
    if not data.startswith(_MAGIC):
        return None
    try:
        reply = router_pb2.InferResponse.FromString(data[len(_MAGIC) :])
        columns = list(decode_columns(reply.batch.columns, 1).values())
        (decision,) = reply.decisions
    except (Fault, DecodeError, ValueError):
        return None
    models = [ModelUse(m.stage, m.model, m.version, m.sha256, m.backend) for m in decision.models]
    (answer,) = answers_of(columns, tuple(models), fields_of(columns)) or (None,)
    return answer


def shared_answers(
    settings: CacheSettings, meter: CacheMetrics, clock: Callable[[], float]
) -> SharedAnswers | None:
    """The store that the settings name; None: they name none. Raises ConfigError for an address that is none."""
    if not settings.redis:
        return None
    return SharedAnswers(RedisCalls(settings.redis, settings.timeout_s, clock), meter)

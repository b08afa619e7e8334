"""Answers that several routers keep together in Redis. While Redis is gone, the models answer: nothing waits, nothing fails."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import PositiveFloat

from headrace.columns import DType
from headrace.hop.config import Settings
from headrace.pipeline import ModelUse
from headrace.state.redis import RedisCalls, RedisDownError
from services.router.cache.meter import CacheMeter
from services.router.cache.rows import Answer, Field, Value

_MAGIC = b"hra1"
_HEAD = struct.Struct("<4sI")
_NAME = b"headrace:answer:"


class CacheSettings(Settings):
    """Where answers are kept besides this process."""

    # Such as redis://HOST:6379/0 or rediss://USER:PASSWORD@HOST:6380/0. Empty: each router keeps its own answers only.
    redis: str = ""
    # A call that takes longer is given up, and for a second nobody asks.
    timeout_s: PositiveFloat = 0.05


class SharedAnswers:
    """`clock`: monotonic seconds."""

    def __init__(self, calls: RedisCalls, meter: CacheMeter) -> None:
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
    """Magic number, length of the head, the head as JSON, then the values one after another."""
    flat: list[bytes] = []
    sizes: list[Any] = []
    for value in answer.values:
        if value is None:
            sizes.append(None)
        elif isinstance(value, bytes):
            sizes.append(len(value))
            flat.append(value)
        else:
            sizes.append([len(part) for part in value])
            flat.extend(value)
    fields = [[f.name, int(f.dtype), f.row_shape] for f in answer.fields]
    models = [[m.stage, m.model, m.version, m.sha256, m.backend] for m in answer.models]
    head = json.dumps([fields, models, sizes], separators=(",", ":")).encode()
    return _HEAD.pack(_MAGIC, len(head)) + head + b"".join(flat)


def load(data: bytes) -> Answer | None:
    """The inverse; None for anything else: whoever writes there, the router only ever takes what fits."""
    try:
        magic, length = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            return None
        fields, models, sizes = json.loads(data[_HEAD.size : _HEAD.size + length])
        made = tuple(Field(str(n), DType(d), tuple(int(x) for x in shape)) for n, d, shape in fields)
        values = _values(data, _HEAD.size + length, sizes)
        if len(values) != len(made) or not all(map(_fits, made, values)):
            return None
        used = [ModelUse(str(s), str(m), str(v), str(sha), str(b)) for s, m, v, sha, b in models]
        return Answer(made, values, tuple(used))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError, struct.error):
        return None


def _values(data: bytes, place: int, sizes: Any) -> tuple[Value, ...]:
    values: list[Value] = []

    def piece(size: int) -> bytes:
        nonlocal place
        place += size
        if size < 0 or place > len(data):
            raise ValueError("a value ends after the data")
        return data[place - size : place]

    for size in sizes:
        if size is None:
            values.append(None)
        else:
            values.append(tuple(map(piece, size)) if isinstance(size, list) else piece(int(size)))
    return tuple(values)


def _fits(field: Field, value: Value) -> bool:
    if value is None:
        return True
    if field.dtype is DType.BYTES:
        one = field.row_size == 1
        return isinstance(value, bytes) if one else isinstance(value, tuple) and len(value) == field.row_size
    return isinstance(value, bytes) and len(value) == field.row_size * field.dtype.numpy.itemsize


def shared_answers(
    settings: CacheSettings, meter: CacheMeter, clock: Callable[[], float]
) -> SharedAnswers | None:
    """The store that the settings name; None: they name none. Raises ConfigError for an address that is none."""
    if not settings.redis:
        return None
    return SharedAnswers(RedisCalls(settings.redis, settings.timeout_s, clock), meter)

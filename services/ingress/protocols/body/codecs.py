"""Messages in their two forms, protobuf and JSON, read within limits."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from services.ingress.faults import malformed
from services.ingress.protocols.body import json_text, wire_scan

M = TypeVar("M", bound=Message)
P = ParamSpec("P")
R = TypeVar("R")
# JSON of this size or more is read and written in a thread: it takes some milliseconds, and other requests should not wait.
THREAD_BYTES = 16 * 1024
# One thread is enough: it shares the GIL with the event loop.
_thread = ThreadPoolExecutor(1, thread_name_prefix="large-json")


async def in_thread(work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Runs the reading or writing of a large JSON text beside the event loop, one at a time."""
    bound = functools.partial(work, *arguments, **options)
    return await asyncio.get_running_loop().run_in_executor(_thread, bound)


class Codec(Protocol):
    """One form of messages. `name`: its name in content types."""

    name: str

    async def read(self, data: bytes, message: type[M]) -> M:
        """Raises Fault INVALID_ARGUMENT if the data is not such a message, RESOURCE_EXHAUSTED for too many values."""
        ...

    def read_at_once(self, data: bytes, message: type[M]) -> M:
        """The same, but blocks the event loop."""
        ...

    async def write(self, message: Message, *, steady: bool = False) -> bytes:
        """`steady`: equal messages have equal bytes, in every process."""
        ...

    def write_at_once(self, message: Message) -> bytes:
        """The same, but blocks the event loop."""
        ...


class Proto:
    """Protobuf's binary form. `max_values`: maximum number of values in one message."""

    name = "proto"

    def __init__(self, max_values: int) -> None:
        self._most = max_values
        # A message of this size can't contain more values than that.
        self._free_bytes = wire_scan.LEAST_BYTES * max_values

    async def read(self, data: bytes, message: type[M]) -> M:
        if len(data) > self._free_bytes:
            for _ in self._scan(data, message):
                await asyncio.sleep(0)
        return _parse(data, message)

    def read_at_once(self, data: bytes, message: type[M]) -> M:
        if len(data) > self._free_bytes:
            for _ in self._scan(data, message):
                pass
        return _parse(data, message)

    def _scan(self, data: bytes, message: type[Message]) -> Any:
        return wire_scan.scan(data, wire_scan.fields_of(message.DESCRIPTOR), self._most)

    async def write(self, message: Message, *, steady: bool = False) -> bytes:
        return message.SerializeToString(deterministic=True) if steady else message.SerializeToString()

    def write_at_once(self, message: Message) -> bytes:
        return message.SerializeToString()


class Json:
    """Protobuf's JSON form. Unknown fields are skipped, because newer clients may send them."""

    name = "json"

    def __init__(self, max_values: int) -> None:
        self._most = max_values

    async def read(self, data: bytes, message: type[M]) -> M:
        if len(data) <= THREAD_BYTES:
            return self.read_at_once(data, message)
        return await in_thread(self.read_at_once, data, message)

    def read_at_once(self, data: bytes, message: type[M]) -> M:
        value = json_text.read(data, self._most) if data else {}
        if not isinstance(value, dict):
            raise malformed("the body is not a JSON object")
        try:
            return json_format.ParseDict(value, message(), ignore_unknown_fields=True)
        except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
            text = str(error).partition("\n")[0]
            raise malformed(f"the JSON is not a {message.DESCRIPTOR.full_name}: {text[:200]}") from None

    async def write(self, message: Message, *, steady: bool = False) -> bytes:
        if message.ByteSize() <= THREAD_BYTES:
            return _json_of(message, steady)
        return await in_thread(_json_of, message, steady)

    def write_at_once(self, message: Message) -> bytes:
        return _json_of(message, steady=False)


def _json_of(message: Message, steady: bool) -> bytes:
    return json_format.MessageToJson(message, sort_keys=steady).encode()


def _parse(data: bytes, message: type[M]) -> M:
    try:
        return message.FromString(data)
    except DecodeError:
        raise malformed(f"the message is not a {message.DESCRIPTOR.full_name}") from None

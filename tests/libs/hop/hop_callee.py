"""A callee in a process of its own that can be killed, stopped and made to misbehave, and the client's view of it.

The service is `tests.Work`: `Do` answers each word of a list. Run as a program it serves on a unix socket.
"""

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.struct_pb2 import ListValue

from headrace.hop.batching.codec import ItemDescription
from headrace.hop.call import Call, Peer, unary
from headrace.hop.client.settings import RetryRules
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.transport.frames import SUFFIX
from headrace.hop.transport.stream_server import StreamDemultiplexer
from headrace.hop.transport.wire_errors import status_code, trailers
from tests.children import ends_with_tests
from tests.stopped import send

_KIND = ".google.protobuf.ListValue"


def _descriptor() -> ServiceDescriptor:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/work.proto", package="tests", syntax="proto3", dependency=["google/protobuf/struct.proto"]
    )
    service = file.service.add(name="Work")
    for name in ("Do", "DoOnce"):
        service.method.add(name=name, input_type=_KIND, output_type=_KIND)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("tests.Work")


WORK = _descriptor()
DO = unary(ListValue, ListValue, idempotent=True, name="Do", file=WORK.file)
DO_ONCE = unary(ListValue, ListValue, idempotent=False, name="DoOnce", file=WORK.file)


def words(*values: str) -> ListValue:
    message = ListValue()
    message.extend(values)
    return message


async def answer(request: ListValue) -> bytes:
    """The reply's bytes: a word `pid` becomes the process's id, others come back, some do more."""
    replies: list[str] = []
    for word in request:
        verb, _, rest = str(word).partition(" ")
        match verb:
            case "sleep":
                await asyncio.sleep(float(rest))
            case "garbage":
                return b"\xff\xff\xff\xff"
            case "short":
                continue
            case "pid":
                word = f"pid {os.getpid()}"
            case "fault":
                code, _, retry = rest.partition(" ")
                raise Fault(
                    Code[code],
                    Reason.REASON_OVERLOADED,
                    "as asked",
                    retry_after_s=float(retry) if retry else None,
                )
        replies.append(str(word))
    return words(*replies).SerializeToString()


class Item:
    """One word, with what the coalescer asks."""

    def __init__(self, word: str, *, within: float = 60.0, key: str = "", priority: int = 1) -> None:
        self.word = word
        self.ends = time.monotonic() + within
        self.key = key
        self.priority = priority


def retrying(rules: dict[str, Any], **constants: float) -> RetryRules:
    """Rules of retries with other constants."""
    made: RetryRules = type("Retrying", (RetryRules,), constants)(**rules)
    return made


class WordCodec:
    """Items are words; `merged` notes what left together."""

    def __init__(self) -> None:
        self.merged: list[list[str]] = []

    def describe(self, item: Item) -> ItemDescription:
        return item.key, "", 1, len(item.word), item.ends, item.priority

    def failed(self, results: Sequence[str]) -> float:
        return sum(w == "broken" for w in results) / max(1, len(results))

    def merge(self, items: Sequence[Item]) -> ListValue:
        self.merged.append([i.word for i in items])
        return words(*[i.word for i in items])

    def split(self, items: Sequence[Item], response: ListValue) -> list[Any]:
        if len(response) != len(items):
            raise Fault(Code.INTERNAL, Reason.REASON_INTERNAL, "the reply has other rows than the request")
        return list(response)


class Callee:
    """The program as a child process on a socket; started anew on the same socket as often as wanted."""

    # Whether it takes calls on streams, too.
    exchange: ClassVar[bool] = True

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.target = f"unix:{socket}"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self) -> None:
        ways = ["exchange"] if self.exchange else []
        self._process = await asyncio.create_subprocess_exec(
            *ends_with_tests(sys.executable, __file__, str(self.socket), *ways)
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_unix_connection(str(self.socket))
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
        raise AssertionError("the callee does not listen")

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self._process.wait()

    def signal(self, number: int) -> None:
        send(self._process.pid, number)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            await self.kill()


async def serve(path: str, *ways: str) -> None:
    async def carried(raw: bytes, _call: Call) -> bytes:
        return await answer(ListValue.FromString(raw))

    async def handle(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return await answer(ListValue.FromString(raw))
        except Fault as fault:
            await context.abort(status_code(fault.code), fault.message, trailers(fault))
            raise

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(handle)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("tests.Work", {"Do": handler, "DoOnce": handler})]
    )
    if "exchange" in ways:
        answers = dict.fromkeys((DO.path, DO_ONCE.path), carried)
        streams = StreamDemultiplexer(answers, Peer("unix"), 64 * 1024 * 1024)
        await asyncio.get_running_loop().create_unix_server(streams.accept, path + SUFFIX)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


async def fault_of(call: Awaitable[object]) -> Fault:
    """What it fails with; it must."""
    try:
        await call
    except Fault as fault:
        return fault
    raise AssertionError("it did not fail")


def soon(seconds: float = 60.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds if seconds < math.inf else math.inf


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))

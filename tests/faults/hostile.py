"""What a hostile tenant does for a moment: a case follows from its number, and is done by a process of its own.

The RPCs are those that the door itself lists by reflection, so a new one is among them. Requests are written as HTTP/2 frames:
half bodies, resets and readers that do not read are nothing that a client library would send.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
import struct
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import cycle, islice
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]  # it has no types
    ProtoReflectionDescriptorDatabase,
)
from PIL import Image

from tests.system import requests

# The pipeline that the hostile tenant may change.
THEIRS = "theirs"
DEADLINES_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 30.0, None)
SIZES = ("one", "one", "few", "limit", "over", "malformed", "oversized")
ENDINGS = ("answer", "answer", "cancel", "reset", "half", "slow")
CALLERS = (1, 2, 8)
# Calls per second of one caller; inf: as fast as it can.
RATES = (1.0, 10.0, 50.0, float("inf"))
# The most rows, or characters, of one request.
LIMITS = {"Predict": 4096, "ModelInfer": 4096, "ModelStreamInfer": 4096, "Explain": 8, "RecordOutcomes": 1000}
_TEXT, _PICTURES = 65536, 8
# Larger than what the door takes.
_OVERSIZED = 17 * 1024 * 1024
_V2, _MODEL = "/v2/repository/models/flights_light/", "/v2/models/flights"
REST = {
    "ServerLive": "GET /v2/health/live",
    "ServerReady": "GET /v2/health/ready",
    "ServerMetadata": "GET /v2",
    "ModelMetadata": f"GET {_MODEL}",
    "ModelReady": f"GET {_MODEL}/ready",
    "ModelConfig": f"GET {_MODEL}/config",
    "ModelStatistics": f"GET {_MODEL}/stats",
    "ModelInfer": f"POST {_MODEL}/infer",
    "RepositoryIndex": "POST /v2/repository/index",
    "RepositoryModelLoad": f"POST {_V2}load",
    "RepositoryModelUnload": f"POST {_V2}unload",
}
# Content type, whether messages are framed, whether they are JSON.
FORMS = {
    "grpc": ("application/grpc", True, False),
    "web": ("application/grpc-web+proto", True, False),
    "connect": ("application/proto", False, False),
    "json": ("application/json", False, True),
    "rest": ("application/json", False, True),
    "stream": ("application/connect+proto", True, False),
}


@cache
def rpcs(target: str) -> Mapping[str, MethodDescriptor]:
    """Every RPC of the door by its path, in the order of their names."""
    with grpc.insecure_channel(target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        found = [m for name in database.get_services() for m in pool.FindServiceByName(name).methods]
    return {
        f"/{m.containing_service.full_name}/{m.name}": m for m in sorted(found, key=lambda m: m.full_name)
    }


@dataclass(frozen=True, slots=True)
class Case:
    """`rate`: calls per second of each of the callers; `deadline_s` None: they name none."""

    path: str
    form: str = "grpc"
    pipeline: str = "flights"
    size: str = "one"
    deadline_s: float | None = None
    ending: str = "answer"
    callers: int = 8
    rate: float = float("inf")
    tenant: str = "hostile"
    seconds: float = 1.0

    @classmethod
    def of(cls, number: int, found: Mapping[str, MethodDescriptor]) -> Case:
        """RPCs come in turns, all else by chance."""
        chance = random.Random(number)
        path, rpc = list(found.items())[number % len(found)]
        streams = rpc.client_streaming or rpc.server_streaming
        forms = ["grpc", "stream"] if streams else ["grpc", "web", "connect", "json"]
        if rpc.name in REST:
            forms += ["rest"]
        pictures = ["moderation"] if rpc.name in ("Predict", "Explain") else []
        return cls(
            path,
            chance.choice(forms),
            chance.choice(["flights", THEIRS, "nobody", *pictures]),
            chance.choice(SIZES),
            chance.choice(DEADLINES_S),
            chance.choice(ENDINGS),
            chance.choice(CALLERS),
            chance.choice(RATES),
            chance.choice(["hostile", "hostile", "generous", "stranger"]),
            chance.uniform(0.3, 1.0),
        )


@lru_cache(maxsize=32)
def content(rpc: MethodDescriptor, form: str, pipeline: str, size: str) -> bytes:
    """The bytes of one request."""
    limit = LIMITS.get(rpc.name, _TEXT)
    rows: Sequence[Mapping[str, Any]] = requests()[:200]
    if pipeline == "moderation":
        rows, limit = [{"image": _picture()}], _PICTURES
    count = {"few": min(limit, 50), "limit": limit, "over": limit + 1}.get(size, 1)
    message = _message(rpc, list(islice(cycle(rows), count)), pipeline)
    if form == "rest":
        found = _rest(message) if rpc.name == "ModelInfer" else b""
    elif FORMS[form][2]:
        found = json_format.MessageToJson(message, indent=None).encode()
    else:
        found = message.SerializeToString()
    if size == "oversized":
        # White space, or a field that nobody knows.
        found += b" " * _OVERSIZED if FORMS[form][2] else b"\xfa\x7f\x80\x80\xc0\x08" + bytes(_OVERSIZED)
    return found


def _message(rpc: MethodDescriptor, rows: Sequence[Mapping[str, Any]], pipeline: str) -> Message:
    made: Any = GetMessageClass(rpc.input_type)()
    if rpc.name in ("Predict", "Explain"):
        made.pipeline = pipeline
        for row in rows:
            made.rows.add().update(row)
    elif rpc.name in ("ModelInfer", "ModelStreamInfer"):
        made.model_name = pipeline
        for name, value in rows[0].items():
            text = isinstance(value, str)
            tensor = made.inputs.add(name=name, datatype="BYTES" if text else "INT32", shape=[len(rows), 1])
            if text:
                tensor.contents.bytes_contents.extend(str(row.get(name, "")).encode() for row in rows)
            else:
                tensor.contents.int_contents.extend(int(row.get(name, 0)) for row in rows)
    elif rpc.name == "RecordOutcomes":
        for i in range(len(rows)):
            made.outcomes.add(request_id=f"{pipeline}-{i}", row=i % 7, name="delayed", label=bool(i % 2))
    else:
        _fill(made, rpc.input_type, pipeline if len(rows) == 1 else "x" * len(rows))
    done: Message = made
    return done


def _fill(message: Any, kind: Descriptor, text: str) -> None:
    """Texts are `text`; numbers, truth values and enumerations 1. Of each oneof the last."""
    for field in kind.fields:
        if field.is_repeated:
            continue
        if field.message_type is not None:
            _fill(getattr(message, field.name), field.message_type, text)
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, text)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, text.encode())
        else:
            setattr(message, field.name, 1)


def _rest(message: Any) -> bytes:
    found = []
    for tensor in message.inputs:
        data = [v.decode() for v in tensor.contents.bytes_contents] or list(tensor.contents.int_contents)
        shape = list(tensor.shape)
        found.append({"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "data": data})
    return json.dumps({"inputs": found}).encode()


@cache
def _picture() -> str:
    noise = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)
    Image.fromarray(noise).save(file := io.BytesIO(), "JPEG")
    return base64.b64encode(file.getvalue()).decode()


class Connection:
    """One call at a time over HTTP/2; of the answer only its end is seen. `window`: bytes that may be sent to us."""

    DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, UPDATE = 0, 1, 3, 4, 6, 7, 8

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self._reader, self._writer = reader, writer
        self._stream = -1
        self._initial = self._room = self._stream_room = 65535
        self._news, self.ended = asyncio.Event(), asyncio.Event()
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._frame(self.SETTINGS, 0, 0, struct.pack(">HI", 4, window))
        self._frame(self.UPDATE, 0, 0, struct.pack(">I", 1 << 30))
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, target: str, window: int) -> Connection:
        host, port = target.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port)), window)

    def _frame(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        self._writer.write(
            struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content
        )

    async def send(self, headers: Mapping[str, str], body: bytes, *, whole: bool) -> None:
        """A request, or all of it but its end."""
        self._stream += 2
        self._stream_room = self._initial
        self.ended.clear()
        block = b"".join(
            b"\0" + _text(name.encode()) + _text(value.encode()) for name, value in headers.items()
        )
        self._frame(self.HEADERS, 4, self._stream, block)
        start = 0
        while start < len(body) and not self.ended.is_set():
            size = min(16384, len(body) - start, self._room, self._stream_room)
            if size <= 0:
                self._news.clear()
                await self._news.wait()
                continue
            self._frame(self.DATA, 0, self._stream, body[start : start + size])
            start, self._room, self._stream_room = start + size, self._room - size, self._stream_room - size
            await self._writer.drain()
        if whole:
            self._frame(self.DATA, 1, self._stream, b"")
            await self._writer.drain()

    @property
    def closed(self) -> bool:
        return self._reading.done()

    def cancel(self) -> None:
        self._frame(self.RESET, 0, self._stream, struct.pack(">I", 8))

    def abort(self) -> None:
        self._reading.cancel()
        self._writer.transport.abort()

    async def _read(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                head = await self._reader.readexactly(9)
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                content = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._see(kind, flags, stream, content)
        self.ended.set()
        self._news.set()

    def _see(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        ours = stream == self._stream
        if kind == self.SETTINGS and not flags:
            for name, value in struct.iter_unpack(">HI", content):
                if name == 4:
                    self._stream_room += value - self._initial
                    self._initial = value
            self._frame(self.SETTINGS, 1, 0, b"")
        elif kind == self.PING and not flags:
            self._frame(self.PING, 1, 0, content)
        elif kind == self.UPDATE and (ours or not stream):
            more = int.from_bytes(content, "big")
            self._room, self._stream_room = self._room + more * (not stream), self._stream_room + more * ours
        if (ours and (kind == self.RESET or (kind <= self.HEADERS and flags & 1))) or kind == self.GOAWAY:
            self.ended.set()
        self._news.set()


def _text(text: bytes) -> bytes:
    """A string of HPACK: its length with a prefix of seven bits."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, found = len(text) - 127, b"\x7f"
    while rest > 127:
        rest, found = rest >> 7, found + bytes([rest & 127 | 128])
    return found + bytes([rest]) + text


@dataclass(frozen=True, slots=True)
class Hostile:
    """`keys` by tenant; a stranger has one that opens nothing."""

    target: str
    keys: Mapping[str, str]

    async def run(self, case: Case, seed: int) -> int:
        """Returns how many calls were begun."""
        rpc, counts = rpcs(self.target)[case.path], Counter[int]()
        body = content(rpc, case.form, case.pipeline, case.size)

        async def caller(number: int) -> None:
            """One call after another."""
            chance, window = random.Random(f"{seed}/{number}"), 0 if case.ending == "slow" else (1 << 31) - 1
            connection = await Connection.open(self.target, window)
            try:
                while True:
                    if connection.closed:
                        connection = await Connection.open(self.target, window)
                    counts[number] += 1
                    await self._call(connection, case, rpc, body, chance)
                    await asyncio.sleep(chance.expovariate(case.rate) if case.rate != float("inf") else 0)
            finally:
                connection.abort()

        with suppress(TimeoutError):
            async with asyncio.timeout(case.seconds):
                await asyncio.gather(*map(caller, range(case.callers)))
        return counts.total()

    async def _call(
        self, connection: Connection, case: Case, rpc: MethodDescriptor, body: bytes, chance: random.Random
    ) -> None:
        headers, sent = self._headers(case, rpc), _sent(case, body, chance)
        half = case.ending == "half"
        with suppress(OSError):
            await connection.send(headers, sent[: len(sent) // 2] if half else sent, whole=not half)
            patience = case.deadline_s or 30.0
            if case.ending in ("cancel", "reset"):
                patience = min(patience, chance.expovariate(50))
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await connection.ended.wait()
            if case.ending == "reset":
                connection.abort()
            elif not connection.ended.is_set():
                connection.cancel()

    def _headers(self, case: Case, rpc: MethodDescriptor) -> Mapping[str, str]:
        method, path = REST[rpc.name].split() if case.form == "rest" else ("POST", case.path)
        headers = {":method": method, ":scheme": "http", ":path": path, ":authority": self.target}
        headers |= {"content-type": FORMS[case.form][0], "te": "trailers"}
        headers["authorization"] = f"Bearer {self.keys.get(case.tenant, 'no such key')}"
        if case.deadline_s is not None:
            milliseconds = f"{case.deadline_s * 1000:.0f}"
            framed = case.form in ("grpc", "web")
            headers["grpc-timeout" if framed else "connect-timeout-ms"] = milliseconds + "m" * framed
        return headers


def _sent(case: Case, body: bytes, chance: random.Random) -> bytes:
    """The message as the form has it."""
    framed = FORMS[case.form][1]
    if case.size != "malformed":
        return struct.pack(">BI", 0, len(body)) + body if framed else body
    wrong = chance.choice(
        [chance.randbytes(300), body[: len(body) // 2], body + chance.randbytes(9), b"\xff" * 90]
    )
    head = struct.pack(">BI", chance.choice([0, 0, 1, 200]), chance.choice([len(wrong), 0, 5, 1 << 31]))
    return head + wrong if framed else wrong


async def main() -> None:
    """Does the cases that it reads: lines of `[seed, case]`; the first line has the target and the keys."""
    os.nice(5)  # on a machine of its own it would cost the services nothing but its calls
    hostile = Hostile(*json.loads(sys.stdin.readline()))
    while line := await asyncio.to_thread(sys.stdin.readline):
        seed, case = json.loads(line)
        print(await hostile.run(Case(**case), seed), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

"""The fake Envoy of `envoy.c`, and lane.c behind it, for tests in Python."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = b"/b/B"
TAKEN = 3


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("name_size", ctypes.c_size_t),
        ("value", ctypes.c_char_p),
        ("value_size", ctypes.c_size_t),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_size_t))


@dataclass(frozen=True, slots=True)
class Answer:
    headers: Mapping[bytes, bytes]
    body: bytes
    trailers: Mapping[bytes, bytes]

    @property
    def status(self) -> int:
        return int(self.headers[b":status"])


class FakeEnvoy:
    """One thread of Envoy, that of the test. `library`: as of `lane_builds.shared`."""

    def __init__(self, library: Path) -> None:
        self._c = ctypes.PyDLL(str(library))
        for name in ("envoy_new", "envoy_stream", "envoy_reply"):
            getattr(self._c, name).restype = ctypes.c_void_p
        self._c.envoy_run.restype = ctypes.c_bool
        self._envoy = ctypes.c_void_p(self._c.envoy_new(PATH + b"\n"))
        self._number = 0
        # The bytes of streams stay where they are.
        self._held: list[Any] = []

    def begin(self, headers: Sequence[tuple[bytes, bytes]], path: bytes = PATH) -> int:
        """The headers of a request have come. Its number."""
        every = [(b":method", b"POST"), (b":path", path), *headers]
        array = (_Header * len(every))(*(_Header(n, len(n), v, len(v)) for n, v in every))
        self._number += 1
        self._held += [array, every]
        self._c.envoy_headers(self._envoy, ctypes.c_uint64(self._number), array, len(every), False)
        return self._number

    def body(self, number: int, *pieces: bytes, end: bool = True) -> int:
        """More of the body has come. What the lane says to that."""
        array = (_Buffer * len(pieces))(*(_Buffer(piece, len(piece)) for piece in pieces))
        self._held += [array, pieces]
        status: int = self._c.envoy_body(self._stream(number), array, len(pieces), end)
        return status

    def request(self, body: bytes, *headers: tuple[bytes, bytes]) -> int:
        """A request that has come whole, and that the lane takes. Its number."""
        number = self.begin(headers)
        assert self.body(number, body) == TAKEN
        return number

    def end(self, number: int) -> None:
        self._c.envoy_end(self._stream(number), True)

    def run(self) -> int:
        """Runs the events that were posted to it. How many they were."""
        count = 0
        while self._c.envoy_run(self._envoy):
            count += 1
        return count

    def answer(self, number: int) -> Answer | None:
        """What was sent; None if it is not complete."""
        sizes = (ctypes.c_size_t * 3)()
        place = self._c.envoy_reply(self._stream(number), sizes)
        if place is None:
            return None
        head, body, trailers = sizes
        data = ctypes.string_at(place, head + body + trailers)
        return Answer(_pairs(data[:head]), data[head : head + body], _pairs(data[head + body :]))

    async def answered(self, number: int) -> Answer:
        async with asyncio.timeout(60):
            while (found := self.answer(number)) is None:
                await asyncio.sleep(0.001)
                self.run()
        return found

    def _stream(self, number: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._c.envoy_stream(self._envoy, ctypes.c_uint64(number)))


def _pairs(data: bytes) -> dict[bytes, bytes]:
    words = data.split(b"\0")[:-1]
    return dict(zip(words[::2], words[1::2], strict=True))

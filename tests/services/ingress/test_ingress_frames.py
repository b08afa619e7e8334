"""gRPC's wire details: whatever the bytes, a message or a Fault of the caller's."""

from __future__ import annotations

import asyncio
import base64
import gzip
import urllib.parse
from collections.abc import Callable
from typing import TypeVar

import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]  # has no stubs
from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.protocols.grpc import frames

LIMIT = 1000
T = TypeVar("T")


def attempt(call: Callable[[], T]) -> T | Fault:
    """What `call` returns, or the Fault that it raises; nothing else may come out."""
    try:
        return call()
    except Fault as fault:
        return fault


@given(st.binary(max_size=50), st.sampled_from([b"", b"gzip", b"identity", b"snappy"]))
def test_any_bytes_give_a_message_or_the_callers_fault(body: bytes, encoding: bytes) -> None:
    outcome = attempt(lambda: asyncio.run(frames.read_message(body, LIMIT, encoding)))
    if isinstance(outcome, Fault):
        assert outcome.code in {Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.RESOURCE_EXHAUSTED}


@given(st.binary(max_size=LIMIT), st.booleans())
def test_a_whole_frame_is_read(message: bytes, compressed: bool) -> None:
    data = gzip.compress(message) if compressed else message
    body = frames.PREFIX.pack(compressed, len(data)) + data
    assert asyncio.run(frames.read_message(body, LIMIT + 100, b"gzip")) == message


@pytest.mark.parametrize(("limit", "says"), [(20_000, "20000"), (16_000_000, "100 times")])
async def test_a_zip_bomb_stops_at_the_limit(limit: int, says: str) -> None:
    data = gzip.compress(bytes(10_000_000))
    with pytest.raises(Fault, match=says) as caught:
        await frames.read_message(frames.PREFIX.pack(1, len(data)) + data, limit, b"gzip")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


async def test_a_small_message_may_be_much_smaller_when_compressed() -> None:
    data = gzip.compress(bytes(60_000))
    assert len(data) < 600
    assert await frames.read_message(frames.PREFIX.pack(1, len(data)) + data, 100_000, b"gzip") == bytes(
        60_000
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"5S", 5), (b"100m", 0.1), (b"1H", 3600), (b"99999999n", 0.099999999), (b"2M", 120)],
)
def test_timeouts(text: bytes, seconds: float) -> None:
    assert frames.read_timeout(text) == pytest.approx(seconds)


@given(st.binary(max_size=12))
def test_any_timeout_is_seconds_or_a_fault(text: bytes) -> None:
    outcome = attempt(lambda: frames.read_timeout(text))
    if isinstance(outcome, Fault):
        assert outcome.code is Code.INVALID_ARGUMENT
    else:
        assert outcome >= 0


@given(st.text(max_size=2000))
def test_a_status_survives_the_headers(message: str) -> None:
    fault = Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_QUOTA_EXCEEDED, message, retry_after_s=0.25)
    headers = dict(frames.status_headers(fault))
    assert headers[b"grpc-status"] == b"8"
    assert headers[b"grpc-retry-pushback-ms"] == b"250"
    assert all(32 <= byte < 127 for value in headers.values() for byte in value)
    details = base64.b64decode(headers[b"grpc-status-details-bin"] + b"==")
    shown = status_pb2.Status.FromString(details).message
    assert urllib.parse.unquote(headers[b"grpc-message"].decode()) == shown.encode(errors="replace").decode()

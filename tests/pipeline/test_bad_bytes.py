"""Bytes that are no request, through the real door: each a clean answer of its own, and nothing unexpected behind it.

What nobody thought of is tests/fuzz's.
"""

import gzip
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.gauges import busy
from tests.posting import post_raw
from tests.system import OIP, PREDICT, System, poll
from tests.unexpected import nothing_unexpected

GRPC = {"content-type": "application/grpc", "te": "trailers"}
JSON = {"content-type": "application/json"}
DEEP = 100_000


@pytest.fixture(autouse=True)
def _nothing_unexpected(system: System) -> Iterator[None]:
    with nothing_unexpected(system):
        yield


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, "3"),
        (b"\0\0\0", {}, "3"),
        (b"\0\0\0\0\x05abc", {}, "3"),
        (b"\0\0\0\0\x03\xff\xff\xff", {}, "3"),
        (b"\x07\0\0\0\0", {}, "3"),
        (b"\0\0\0\0\0\0\0\0\0\0", {}, "3"),
        (b"\x01\0\0\0\x02ab", {}, "3"),
        (b"\x01\0\0\0\x02ab", {"grpc-encoding": "gzip"}, "3"),
        (b"\x01\0\0\0\x02ab", {"grpc-encoding": "snappy"}, "12"),
        (b"\0\xff\xff\xff\xff", {}, "8"),
        (b"\0\0\0\0\0", {"grpc-timeout": "soon"}, "3"),
    ],
)
@pytest.mark.parametrize("path", [PREDICT, OIP + "ModelInfer"])
def test_broken_frames(system: System, path: str, body: bytes, headers: dict[str, str], status: str) -> None:
    http, got = post_raw(system, path, {**GRPC, **headers}, body)
    assert (http, got["grpc-status"]) == (200, status)
    assert got["grpc-message"]
    assert got["x-request-id"]


def test_a_small_frame_that_unpacks_to_more_than_the_limit(system: System) -> None:
    packed = gzip.compress(bytes(64 << 20))
    assert len(packed) < 1 << 20
    frame = b"\x01" + len(packed).to_bytes(4, "big") + packed
    http, got = post_raw(system, PREDICT, {**GRPC, "grpc-encoding": "gzip"}, frame)
    assert (http, got["grpc-status"]) == (200, "8")


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        (PREDICT, JSON, b"{", 400),
        (PREDICT, JSON, b"\xff\xfe", 400),
        (PREDICT, JSON, b"[" * DEEP, 400),
        (PREDICT, JSON, b'{"rows":' * DEEP, 400),
        (PREDICT, JSON, b'{"pipeline": "flights", "rows": [' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"]}", 400),
        (PREDICT, {"content-type": "text/html"}, b"{}", 415),
        (PREDICT, {"content-type": "application/grpc+nonsense"}, b"\0\0\0\0\0", 415),
        (PREDICT, {**JSON, "x-huge": "x" * 60_000}, b"{}", 431),
        (PREDICT, {**JSON, **{f"x-{i}": "x" for i in range(100)}}, b"{}", 431),
        ("/v2/models/flights/infer", JSON, b"{", 400),
        ("/v2/models/flights/infer", JSON, b"[" * DEEP, 400),
        ("/v2/models/flights/infer", JSON, b'{"inputs": [{"name": "month", "datatype": "INT32", "shape": [1, 1], "data": '
         + b"[" * 900 + b"]" * 900 + b"}]}", 400),
        ("/v2/models/flights/infer", JSON, b'{"inputs": {}}', 400),
        ("/v2/models/flights/infer", {**JSON, "content-encoding": "gzip"}, b"not gzip", 400),
        ("/v2/models/flights/infer", {**JSON, "content-encoding": "gzip"}, gzip.compress(bytes(64 << 20)), 413),
        ("/v2/models/flights/infer", JSON, b" " * (17 << 20), 413),
        ("/nothing", JSON, b"{}", 404),
    ],
)  # fmt: skip
def test_http(system: System, path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    assert post_raw(system, path, headers, body)[0] == status


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 2000,
        b"\x16\x03\x01\x02\x00" + b"\x01" * 300,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xee" * 500,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("listener", ["grpc", "grpc_tls"])
def test_what_is_no_http_is_hung_up_on(system: System, listener: str, garbage: bytes) -> None:
    host, port = system.endpoints[listener].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(garbage)
        with suppress(OSError):  # it has hung up already
            connection.shutdown(socket.SHUT_WR)  # else more may come that makes sense of it
        answer = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
    assert b" 200 " not in answer.partition(b"\r\n")[0]


def test_a_request_that_is_cut_off_holds_nothing(system: System) -> None:
    host, port = system.endpoints["grpc"].rsplit(":", 1)
    head = (
        b"POST "
        + PREDICT.encode()
        + b" HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 99\r\n\r\n"
    )
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head + b"\0\0\0\0\x5ehalf")
    poll("nobody is served", lambda: not busy(system))

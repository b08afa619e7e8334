"""The load generator against a real gRPC server: what it reports is what happened; Poisson arrivals."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace

import grpc
import numpy as np
import pytest

from load.generator import hpack, http2
from load.generator.arrivals import arrivals
from load.generator.load_generator import PENDING, Caller, ClosedLoopGenerator, LoadGenerator, Plan, Samples

PATH = "/a.Service/Method"
CallResult = Callable[[bytes, grpc.ServicerContext], bytes]


class Served(grpc.GenericRpcHandler):
    def __init__(self, answer: CallResult) -> None:
        self._answer = answer

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(self._answer) if details.method == PATH else None


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server whose every call is answered by a function; gives its address."""
    servers: list[grpc.Server] = []

    def start(answer: CallResult, streams: int = 1000, threads: int = 16) -> str:
        options = [("grpc.max_concurrent_streams", streams)]
        server = grpc.server(futures.ThreadPoolExecutor(threads), [Served(answer)], options=options)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


def plan(target: str, times: list[float], deadline_s: float = 2.0, **more: object) -> Plan:
    count = len(times)
    who, what = np.zeros(count, np.uint16), np.arange(count, dtype=np.uint32)
    callers = [Caller("a", "secret", deadline_s)]
    messages = [f"m{i}".encode() for i in range(count)]
    return Plan(target, PATH, callers, messages, np.array(times), who, what, **more)  # type: ignore[arg-type]  # `more` is the plan's own fields


def fired(it: Plan) -> Samples:
    samples = LoadGenerator(it).run()
    assert not (samples.status == PENDING).any()
    return samples


def test_replies_come_to_the_calls_that_asked(serve: Callable[..., str]) -> None:
    target = serve(lambda request, _: request[::-1] * 3000)
    samples = fired(plan(target, [i / 2000 for i in range(200)], kept=frozenset(range(200)), connections=3))
    assert (samples.status == 0).all()
    assert samples.replies == {i: f"m{i}".encode()[::-1] * 3000 for i in range(200)}


def test_a_message_waits_for_the_window_that_the_server_opens() -> None:
    connection, message = http2.Connection(), bytes(16_000)
    # 64 KiB at first.
    assert [bool(connection.call(i, b"", message)) for i in range(5)] == [True] * 4 + [False]
    connection.receive(http2.frame(8, 0, 0, (16_005).to_bytes(4, "big")))
    assert connection.call(5, b"", message)
    with pytest.raises(http2.ProtocolError, match="more than one frame"):
        connection.call(6, b"", bytes(16_380))


def test_each_status_is_read_and_metadata_arrives(serve: Callable[..., str]) -> None:
    seen: list[dict[str, object]] = []

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        code = int(request[1:])
        if code:
            context.abort(next(c for c in grpc.StatusCode if c.value[0] == code), "as asked, %äöü")
        return b""

    samples = fired(plan(serve(answer), [0.0] * 17))
    assert samples.status.tolist() == list(range(17))
    assert {m["authorization"] for m in seen} == {"Bearer secret"}


def test_the_deadline_goes_along_and_shrinks_while_a_call_is_held(serve: Callable[..., str]) -> None:
    left: list[float] = []

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        left.append(context.time_remaining())
        time.sleep(0.1)
        return b""

    # One stream at a time: the second leaves when the first has ended, with 0.1 s less.
    samples = fired(plan(serve(answer, streams=1), [0.0, 0.0], 60.0, connections=1))
    assert (samples.status == 0).all()
    # gRPC rounds what it sends up, by less than a hundredth.
    assert 30 < left[0] <= 60.6
    assert 30 < left[1] <= left[0] - 0.09


def test_latency_counts_from_when_a_request_was_due(serve: Callable[..., str]) -> None:
    def answer(_: bytes, __: grpc.ServicerContext) -> bytes:
        time.sleep(0.05)
        return b""

    # A server that serves one at a time, asked for ten at once: the last waits for all before it.
    due = [0.0] * 10
    samples = fired(plan(serve(answer, streams=1, threads=1), due, connections=1))
    waits = np.sort(samples.ended - np.array(due))
    assert waits[0] >= 0.05
    assert waits[-1] >= 0.5


def test_a_call_without_an_answer_ends_with_its_deadline(serve: Callable[..., str]) -> None:
    release = threading.Event()

    def answer(_: bytes, __: grpc.ServicerContext) -> bytes:
        release.wait(200)
        return b""

    begun = time.monotonic()
    try:
        samples = fired(plan(serve(answer), [0.0, 0.01], 0.2))
    finally:
        release.set()
    assert time.monotonic() - begun < 100
    assert samples.status.tolist() == [http2.DEADLINE_EXCEEDED] * 2


def test_a_caller_may_cancel_before_its_deadline(serve: Callable[..., str]) -> None:
    cancelled = threading.Event()

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(cancelled.set)
        cancelled.wait(200)
        return b""

    it = replace(plan(serve(answer), [0.0]), callers=[Caller("a", "secret", 300.0, -299.9)])
    assert fired(it).status.tolist() == [http2.DEADLINE_EXCEEDED]
    assert cancelled.wait(100)


def test_a_lost_connection_is_an_unavailable_server() -> None:
    async def scene() -> Samples:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"m0")
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await asyncio.to_thread(fired, plan(f"127.0.0.1:{port}", [0.0], connections=1))

    assert asyncio.run(scene()).status.tolist() == [http2.UNAVAILABLE]


def test_the_huffman_form_of_a_status_is_read() -> None:
    # As nghttp2 (in Envoy) writes `grpc-status: 0`, and with a value in Huffman code.
    block = bytes.fromhex("00889acac8b21234da8f0130")
    assert hpack.grpc_status(block) == 0
    assert hpack.grpc_status(block[:-2] + bytes.fromhex("8207ff")) is not None
    assert hpack.grpc_status(b"\x88") is None


def test_in_a_closed_loop_each_caller_waits_for_its_answer(serve: Callable[..., str]) -> None:
    def answer(request: bytes, _: grpc.ServicerContext) -> bytes:
        time.sleep(0.02)
        return request

    it = plan(serve(answer), [0.0] * 1000, kept=frozenset(range(1000)), at_once=4, seconds=0.5)
    samples = ClosedLoopGenerator(it).run()
    count = int((samples.status != PENDING).sum())
    assert 4 <= count <= 104  # four callers, 20 ms each, half a second
    assert (samples.status[:count] == 0).all()
    assert samples.replies == {i: f"m{i}".encode() for i in range(count)}
    sent, ended = samples.sent[:count], samples.ended[:count]
    assert (ended - sent).min() >= 0.02
    assert max(((sent <= t) & (t < ended)).sum() for t in sent) == 4
    assert sent.max() < 0.5


def test_a_closed_loop_against_a_server_that_fails_ends_and_says_so(serve: Callable[..., str]) -> None:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")
        return b""

    samples = ClosedLoopGenerator(plan(serve(answer), [0.0] * 100_000, at_once=2, seconds=0.2)).run()
    sent = samples.status != PENDING
    assert sent.any()
    assert (samples.status[sent] == 14).all()


def test_a_steady_rate_is_kept_with_exponential_gaps() -> None:
    times = arrivals(1000, 50, np.random.default_rng(1))
    gaps = np.diff(times)
    assert len(times) == pytest.approx(50_000, rel=0.02)
    assert gaps.min() >= 0
    assert times[-1] < 50
    # Of an exponential, the deviation equals the mean; evenly spaced arrivals have none.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)

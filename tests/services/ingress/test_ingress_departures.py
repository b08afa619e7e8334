"""Callers that go away before their answer: what waits for them ends at once, in every protocol, and nothing is left."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from headrace.oip import open_inference_pb2 as oip
from services.ingress.protocols.departures import Departures
from tests.services.ingress.ingress_calls import OIP, PREDICT, bearer, frame, infer, rest_body, unary
from tests.services.ingress.ingress_door import DoorProcess, FakeRouter, Folder, infer_request, running
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
# The pipeline's deadline is two seconds: what ends before it ended for the departure.
SOON_S = 1.5
# As many calls to the router may be on their way; all others gather.
WINDOW = 2
Working = Callable[[], Awaitable[None]]
Leave = Callable[[Folder, Working], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def process(router: FakeRouter, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DoorProcess]:
    """A door of our own: its gauges are nobody else's."""
    # Calls that a router holds make others wait, however long they last.
    client, path = {"coalesce": {"long_calls": 0}}, tmp_path_factory.mktemp("departures")
    async with running(path, router, client) as found:
        yield found


@pytest.fixture
def held(router: FakeRouter) -> Iterator[FakeRouter]:
    """The router, answering nobody."""
    router.held, router.cancelled = True, 0
    router.calls.clear()
    yield router
    router.held = False


def metrics(folder: Folder) -> dict[str, float]:
    """The door's series, summed by name; and `cancelled`, the requests whose callers went away."""
    found: dict[str, float] = {"cancelled": 0.0}
    families = text_string_to_metric_families(folder.metrics())
    for sample in (s for family in families for s in family.samples):
        found[sample.name] = found.get(sample.name, 0.0) + sample.value
        if sample.name == "headrace_ingress_requests_total" and sample.labels["code"] == "CANCELLED":
            assert sample.labels["fault"] == "caller"
            found["cancelled"] += sample.value
    return found


def nothing_is_left(folder: Folder) -> bool:
    found = metrics(folder)
    return found["headrace_ingress_in_flight"] == 0 and found["headrace_hop_waiting_rows"] == 0


async def sent(folder: Folder, path: str, content_type: str, body: bytes) -> asyncio.StreamWriter:
    """The connection of an HTTP/1.1 request that was sent."""
    host, port = folder.grpc.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {folder.keys.demo}\r\n"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    return writer


def http1(path: str, content_type: str, body: bytes) -> Leave:
    """Closes the connection of an HTTP/1.1 request."""

    async def leave(folder: Folder, working: Working) -> None:
        writer = await sent(folder, path, content_type, body)
        await working()
        writer.close()

    return leave


def begun(folder: Folder, channel: grpc.aio.Channel, **fields: Any) -> Any:
    """A gRPC call that has begun. It retries nothing and has no deadline of its own."""
    method = unary(channel, OIP + "ModelInfer", oip.ModelInferResponse)
    return method(infer_request([[1, 2]], [1], **fields), metadata=(bearer(folder),))


async def cancel(folder: Folder, working: Working) -> None:
    """Resets a stream of HTTP/2, whose connection stays."""
    async with grpc.aio.insecure_channel(folder.grpc) as channel:
        call = begun(folder, channel)
        await working()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.3)


async def hang_up(folder: Folder, working: Working) -> None:
    """Closes the connection of HTTP/2."""
    async with grpc.aio.insecure_channel(folder.grpc) as channel:
        call = begun(folder, channel)
        await working()
        await channel.close(None)
        with pytest.raises(asyncio.CancelledError):
            await call


JSON = json.dumps({"pipeline": "double", "rows": [{"x": [1, 2], "n": 3}]}).encode()


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(cancel, id="grpc-reset"),
        pytest.param(hang_up, id="grpc-closed"),
        pytest.param(http1("/v2/models/double/infer", "application/json", rest_body()), id="rest"),
        pytest.param(http1(PREDICT, "application/json", JSON), id="json"),
        pytest.param(
            http1(OIP + "ModelInfer", "application/grpc-web+proto", frame(infer_request([[1, 2]], [1]))),
            id="grpc-web",
        ),
    ],
)
async def test_what_is_done_for_who_leaves_ends(process: DoorProcess, held: FakeRouter, leave: Leave) -> None:
    folder = process.folder
    before = metrics(folder)["cancelled"]

    async def working() -> None:
        await until(lambda: len(held.calls) == 1, 5, what="the router has the call")

    await leave(folder, working)
    await until(lambda: held.cancelled == 1, SOON_S, what="the call to the router is given up")
    await until(lambda: asyncio.to_thread(nothing_is_left, folder), SOON_S, what="nothing is left")
    assert metrics(folder)["cancelled"] == before + 1
    held.held = False
    await infer(folder, infer_request([[1, 2]], [1]))
    assert "Traceback" not in process.log()


async def test_rows_that_still_wait_at_the_door_are_taken_out(process: DoorProcess, held: FakeRouter) -> None:
    folder = process.folder

    def waiting() -> float:
        return metrics(folder)["headrace_hop_waiting_rows"]

    async with grpc.aio.insecure_channel(folder.grpc) as channel:
        first: list[Any] = []
        while len(first) < WINDOW:
            first.append(begun(folder, channel))
            await until(lambda: len(held.calls) == len(first), 5, what="one more call is on its way")
        gathering = [begun(folder, channel, id=f"gathering-{i}") for i in range(20)]
        await until(
            lambda: asyncio.to_thread(lambda: waiting() == len(gathering)), SOON_S, what="the others gather"
        )
        for call in gathering:
            call.cancel()
        await until(lambda: asyncio.to_thread(lambda: waiting() == 0), SOON_S, what="nobody gathers")
        assert metrics(folder)["headrace_ingress_in_flight"] == len(first)
        for call in first:
            call.cancel()
        await until(lambda: asyncio.to_thread(nothing_is_left, folder), SOON_S, what="nothing is left")
        await until(lambda: held.cancelled == len(first), SOON_S, what="both calls are given up")
    assert len(held.calls) == len(first)


class Caller:
    """A server's `receive` as pyvoy's is once the body is whole: it says at once whether the caller is there."""

    def __init__(self) -> None:
        self.asked = 0
        self.gone = False

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        return {"type": "http.disconnect"} if self.gone else {"type": "http.request", "body": b""}


async def test_a_door_full_of_slow_requests_checks_few_at_a_time() -> None:
    departures, callers = Departures(), [Caller() for _ in range(1000)]

    async def serve(caller: Caller) -> None:
        with departures.watch(caller.receive):
            await asyncio.sleep(600)

    tasks = [asyncio.create_task(serve(caller)) for caller in callers]
    began = time.monotonic()
    await asyncio.sleep(1)
    asked, took = sum(caller.asked for caller in callers), time.monotonic() - began
    assert 0 < asked <= 32 * (took / 0.05 + 1)
    for caller in callers:
        caller.gone = True
    done, _ = await asyncio.wait(tasks, timeout=60)
    assert len(done) == len(tasks)
    assert not any(task.cancelled() for task in tasks)


async def test_a_caller_that_is_answered_soon_is_never_checked() -> None:
    departures, caller = Departures(), Caller()
    with departures.watch(caller.receive):
        await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    assert caller.asked == 0


async def test_the_end_of_the_server_is_not_taken_for_a_departure() -> None:
    departures, caller = Departures(), Caller()

    async def serve() -> None:
        with departures.watch(caller.receive):
            await asyncio.sleep(60)

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

"""The lane's server, through the real lane.c and a fake Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.ingress.lane import server
from services.ingress.lane.server import Lane
from services.ingress.protocols.asgi import Application, Receive, Scope, Send
from tests.services.ingress.lane.fake_envoy import TAKEN, FakeEnvoy
from tests.services.ingress.lane.lane_builds import shared
from tests.services.waiting import until

Event = MutableMapping[str, Any]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory.mktemp("lane"))


@asynccontextmanager
async def serving(library: Path, application: Application) -> AsyncIterator[tuple[FakeEnvoy, Lane]]:
    lane = Lane(library, application, lambda *_: None, [])
    lane.open()
    try:
        yield FakeEnvoy(library), lane
    finally:
        lane.close()
        asyncio.get_running_loop().remove_reader(lane._c.lane_open(0, b"", 0))
        lane.close()


@contextmanager
def loop_errors() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, details: found.append(details))
    yield found
    asyncio.get_running_loop().set_exception_handler(None)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    event = await receive()
    assert not event["more_body"]
    headers = [(b"path", scope["path"].encode()), *scope["headers"]]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
    await send({"type": "http.response.body", "body": event["body"]})
    await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})


async def test_requests_of_one_moment_are_one_batch_and_their_replies_one_post(library: Path) -> None:
    entered: list[tuple[object, ...]] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        entered.append((scope["type"], scope["method"], scope["path"], scope["headers"]))
        await asyncio.sleep(0)
        await echo(scope, receive, send)

    async with serving(library, application) as (envoy, _):
        numbers = [envoy.request(b"%d" % i, (b"i", b"%d" % i), (b"", b"")) for i in range(64)]
        assert envoy.run() == 64  # "whole yet?", which nothing follows
        async with asyncio.timeout(60):
            while not (posts := envoy.run()):
                await asyncio.sleep(0)
        assert posts == 1
        assert entered == [("http", "POST", "/b/B", [(b"i", b"%d" % i), (b"", b"")]) for i in range(64)]
        for i, number in enumerate(numbers):
            found = envoy.answer(number)
            assert found is not None
            assert (found.status, found.headers[b"i"], found.body) == (200, b"%d" % i, b"%d" % i)
            assert found.trailers == {b"grpc-status": b"0"}
            envoy.end(number)


async def test_while_many_wait_those_of_whom_most_wait_are_refused(tmp_path: Path) -> None:
    grpc, refused_before = (b"content-type", b"application/grpc"), list[int]()

    def passes(_: object, before: int) -> None:
        refused_before.append(before)

    library = shared(tmp_path)
    lane, envoy = Lane(library, echo, passes, [grpc, (b"grpc-status", b"8")]), FakeEnvoy(library)
    lane.open()
    for _ in range(256):
        envoy.request(b"x", grpc, (b"x-api-key", b"greedy"))
    for name in (b"r1", b"r2"):
        number = envoy.begin([grpc, (b"x-api-key", b"greedy"), (b"x-request-id", name)])
        found = envoy.answer(number)
        assert found is not None
        assert found.headers == {
            b":status": b"200",
            grpc[0]: grpc[1],
            b"grpc-status": b"8",
            b"x-request-id": name,
        }
        assert envoy.body(number, b"x") == TAKEN
    # Credentials that share its group are few.
    others = [envoy.begin([grpc, (b"authorization", b"modest %d" % i)]) for i in range(12)]
    passed = [number for number in others if envoy.answer(number) is None]
    assert len(passed) >= 8
    for number in passed:
        assert envoy.body(number, b"y") == TAKEN
    # Who speaks another protocol would not understand the answer.
    last = envoy.request(b"z", (b"content-type", b"application/json"), (b"x-api-key", b"greedy"))
    assert (await envoy.answered(last)).body == b"z"
    assert sum(refused_before) >= 2
    lane.close()


async def _raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("on purpose")


async def _raises_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("on purpose")


async def _says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def _promises_trailers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"all"})


async def _too_many_headers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")] * 64})
    await send({"type": "http.response.body", "body": b"all"})


@pytest.mark.parametrize(
    "application", [_raises, _raises_midway, _says_nothing, _promises_trailers, _too_many_headers]
)
async def test_an_application_without_a_whole_reply_is_a_500(library: Path, application: Application) -> None:
    with loop_errors():
        async with serving(library, application) as (envoy, _):
            found = await envoy.answered(envoy.request(b"x"))
            assert (found.status, found.body, found.trailers) == (500, b"", {})


async def test_a_reply_in_parts_is_sent_once_and_whole(library: Path) -> None:
    returned: list[bool] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for word in (b"first", b"second"):
            await send({"type": "http.response.start", "status": 201, "headers": [(b"word", word)]})
            await send({"type": "http.response.body", "body": word, "more_body": True})
            await send({"type": "http.response.body", "body": b"-" + word})
        returned.append(True)

    async with serving(library, application) as (envoy, _):
        found = await envoy.answered(envoy.request(b"x"))
        assert (found.status, found.headers[b"word"], found.body) == (201, b"first", b"first-first")
        await asyncio.sleep(0)
        assert envoy.run() == 0
        assert returned  # what is sent too often is no error


async def test_receive_after_the_body_says_whether_the_caller_is_there(library: Path) -> None:
    events: list[Event] = []
    go_on = [asyncio.Event(), asyncio.Event()]

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for wait in go_on:
            events.append(await receive())
            events.append(await receive())
            await wait.wait()
        events.append(await receive())

    async with serving(library, application) as (envoy, _):
        number = envoy.request(b"x")
        await until(lambda: len(events) == 2)
        go_on[0].set()
        await until(lambda: len(events) == 4)
        envoy.end(number)
        go_on[1].set()
        await until(lambda: len(events) == 5)
    assert [event["type"] for event in events] == ["http.request"] * 4 + ["http.disconnect"]
    assert [event.get("body") for event in events] == [b"x", b"", b"", b"", None]


async def test_what_was_taken_is_answered_after_the_close_and_new_ones_go_the_usual_way(
    library: Path,
) -> None:
    answer = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer.wait()
        await echo(scope, receive, send)

    async with serving(library, application) as (envoy, lane):
        before = envoy.request(b"taken")
        await asyncio.sleep(0)
        waits = envoy.request(b"not yet seen by the application")
        lane.close()
        after = envoy.begin([])
        assert envoy.body(after, b"x") == 0
        answer.set()
        assert (await envoy.answered(before)).body == b"taken"
        assert (await envoy.answered(waits)).body == b"not yet seen by the application"


async def test_what_nobody_takes_goes_the_usual_way_once_64_mib_wait(library: Path) -> None:
    body = bytes(64 * 1024)
    async with serving(library, echo) as (envoy, _):
        numbers = [envoy.begin([]) for _ in range(1034)]
        waiting = [number for number in numbers if envoy.body(number, body) == TAKEN]
        # Each is a record, its path with a 0, and the body.
        assert waiting == numbers[: (64 << 20) // (server._REQUEST.size + 5 + len(body))]
        envoy.run()
        assert [(await envoy.answered(number)).body == body for number in waiting] == [True] * len(waiting)
        for number in numbers:
            envoy.end(number)

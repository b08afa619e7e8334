"""The account of events: what callers were answered is stored, or told as a gap, whoever is killed in between."""

import asyncio
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Self

import grpc
import pytest

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.operations.event_calls import ask
from headrace.cli.installation import layout
from headrace.columns.wire import decode
from tests.system import HOME, System, headrace, poll, predicting, row_request

KILLS = int(os.environ.get("HEADRACE_KILLS", "3"))
ROWS_PER_S = 300
# Between two kills.
CALM_S = 4.0


class Callers:
    """Asks for a row `ROWS_PER_S` times a second until the context is left. `answered`, `failed`: ids of requests."""

    def __init__(self, system: System) -> None:
        self.answered: set[str] = set()
        self.failed: set[str] = set()
        self._system = system
        self._name = uuid.uuid4().hex[:8]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, more: float) -> None:
        """Until so many more are answered."""
        goal = len(self.answered) + more
        poll("requests are answered", lambda: len(self.answered) > goal)

    async def _run(self) -> None:
        begun, number = time.monotonic(), 0
        async with (
            grpc.aio.insecure_channel(self._system.endpoints["grpc"]) as channel,
            asyncio.TaskGroup() as calls,
        ):
            call = predicting(channel)
            while not self._stop.is_set():
                await asyncio.sleep(0.02)
                while number < (time.monotonic() - begun) * ROWS_PER_S:
                    calls.create_task(self._ask(call, number))
                    number += 1

    async def _ask(self, call: grpc.aio.UnaryUnaryMultiCallable, number: int) -> None:
        request = row_request(self._system.rows[number % 200])
        request.request_id = f"{self._name}-{number}"
        try:
            await call(request, timeout=10, metadata=self._system.auth())
        except grpc.aio.AioRpcError:
            self.failed.add(request.request_id)
        else:
            self.answered.add(request.request_id)


def stored() -> Iterator[str]:
    """Ids of the requests of all events, read as an operator reads them."""
    page = ""
    while True:
        wanted = pb.ReadEventsRequest(chosen=pb.ListEventsRequest(limit=1000), page=page)
        reply = ask(layout.of(HOME), "ReadEvents", wanted, pb.ReadEventsResponse)
        for group in reply.groups:
            yield from decode(group.batch).rows.request_ids
        if not (page := reply.next_page):
            return


def missing() -> int:
    streams = json.loads(headrace("events", "gaps", "--json"))
    return sum(last - first + 1 for stream in streams for first, last in stream["gaps"])


@pytest.mark.slow  # counts events of minutes
def test_what_was_answered_is_stored_or_told_as_a_gap(system: System) -> None:
    before = missing()
    with Callers(system) as callers:
        for i in range(KILLS):
            callers.wait(CALM_S * ROWS_PER_S / 2)
            system.kill("router" if i % 2 else "monitoring")
            if i % 3 == 2:
                system.kill("router")

    poll("monitoring serves", lambda: any(layout.of(HOME).listed("monitoring").glob("*.sock")))

    def account() -> bool:
        lost = len(callers.answered - set(stored()))
        gaps = missing() - before
        print(
            f"{len(callers.answered)} answered, {len(callers.failed)} failed, {lost} not stored, {gaps} told"
        )
        # An event of a request whose answer was lost on its way may be a gap too.
        return lost <= gaps <= lost + len(callers.failed)

    poll("the counts agree", account)
    assert callers.answered
    assert callers.failed

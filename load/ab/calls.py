"""What requests cost in one process, the door's application together with all services: calls of Python and of C, and CPU.

Run with the code of a version first in PYTHONPATH, so that the same requests are counted in several versions. Envoy is left out.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import uvloop
import yaml

from load.generator.flight_requests import rows_message

VARIABLE = "HEADRACE_INGRESS_SETTINGS"
PATH = "/inference.GRPCInferenceService/ModelInfer"
HEADERS = ((b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"grpc-timeout", b"5S"))
SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": PATH,
    "raw_path": PATH.encode(),
    "query_string": b"",
    "scheme": "http",
    "http_version": "2",
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 8080),
    "extensions": {"http.response.trailers": {}},
}
# Requests at once, and rows in each.
GROUPS = {"1 row": (1, 1), "8 rows": (1, 8), "64 rows": (1, 64), "8 requests": (8, 1), "64 requests": (64, 1)}
WARM_UP, ROUNDS = 15, 25
# Those whose CPU is measured: the least of some rounds, so few that another version is asked soon after.
TIMED = ("1 row", "64 requests")
TIMED_ROUNDS = 6
# Requests one after another, and rounds of them, the first of which is not counted.
FOLLOWING, LOOP_ROUNDS = 600, 4
# Of each round; and how long the door rests after it has refused a call.
TRIES, PAUSE_S = 4, 1.0
T = TypeVar("T")
R = TypeVar("R")


class Counter:
    """Counts calls in every thread that is started after it was installed, while it is `on`."""

    def __init__(self) -> None:
        self.on = False
        self.counts = [0, 0]
        self._removed = False
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def start(self) -> None:
        self.counts = [0, 0]
        self.on = True

    def stop(self, _: None) -> list[int]:
        self.on = False
        return self.counts

    def remove(self) -> None:
        """No thread is slowed down any more; each removes it at its next call."""
        self._removed = True
        threading.setprofile(None)

    def _event(self, _frame: FrameType, event: str, _: object) -> None:
        if self._removed:
            sys.setprofile(None)
        elif self.on:
            if event == "call":
                self.counts[0] += 1
            elif event == "c_call":
                self.counts[1] += 1


def settings(home: Path, folder: Path) -> Path:
    """A file of the home's settings, changed so that nothing but this process is needed and no port is taken."""
    values = yaml.safe_load((home / "run/config/ingress.0.yaml").read_text())
    values.pop("quotas", None)
    values |= {
        "telemetry": {"log_level": "error", "trace_ratio": 0},
        "run_dir": str(folder),
        "traces": {"folder": str(folder / "traces")},
        "security": {"file": str(folder / "security.jsonl")},
    }
    # Versions before issue-22 host it.
    values.get("together", {}).get("monitoring", {}).pop("console", None)
    file = folder / "ingress.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def message(rows: list[dict[str, Any]]) -> bytes:
    """A gRPC message that asks for flights."""
    data = rows_message("flights", rows, name="counted")
    return struct.pack(">BI", 0, len(data)) + data


class Walker:
    """The application of a home, and requests for it."""

    def __init__(self, application: Any, home: Path, counter: Counter) -> None:
        self._key = (home / "demo.key").read_text().strip()
        flights = [json.loads(line) for line in (home / "data/requests.jsonl").read_text().splitlines()]
        self._counter = counter
        self._application = application
        self._bodies = {
            kind: [message(flights[i : i + rows]) for i in range(at_once)]
            for kind, (at_once, rows) in GROUPS.items()
        }

    async def calls(self) -> dict[str, list[int]]:
        """By kind of request: the least number of calls of Python and of C."""
        found = {}
        for kind in GROUPS:
            await self._rounds(kind, WARM_UP, lambda: None, lambda _: None)
            rounds = await self._rounds(kind, ROUNDS, self._counter.start, self._counter.stop)
            found[kind] = [min(counts) for counts in zip(*rounds, strict=True)]
        return found

    async def cpu(self) -> dict[str, float]:
        """By kind of request: the least processor time in µs, of all threads. No calls can be counted after it."""
        self._counter.remove()
        return {
            kind: min(
                await self._rounds(
                    kind, TIMED_ROUNDS, time.process_time, lambda begin: (time.process_time() - begin) * 1e6
                )
            )
            for kind in TIMED
        }

    async def loop(self) -> dict[str, float]:
        """The loop's processor time within one request that follows another, ms: medians of some rounds. No calls can be counted
        after it; garbage is collected as in a service."""
        self._counter.remove()
        gc.enable()
        rounds = [sorted([await self._loop_ms(i) for i in range(FOLLOWING)]) for _ in range(LOOP_ROUNDS)][1:]
        median, p99, longest = (
            statistics.median(each[int(part * FOLLOWING)] for each in rounds) for part in (0.5, 0.99, 0.9999)
        )
        return {"p50": median, "p99 ÷ p50": p99 / median, "longest": longest}

    async def _loop_ms(self, i: int) -> float:
        bodies = self._bodies["64 requests"]
        begun = time.thread_time()
        await infer(self._application, self._key, bodies[i % len(bodies)])
        return (time.thread_time() - begun) * 1e3

    async def _rounds(self, kind: str, count: int, begin: Callable[[], T], end: Callable[[T], R]) -> list[R]:
        """What `end` finds in rounds in which each call succeeds: where others need the machine, the door refuses some."""
        found: list[R] = []
        for _ in range(TRIES * count):
            await asyncio.sleep(0.01)  # what earlier requests left for later
            begun = begin()
            told = await asyncio.gather(
                *(infer(self._application, self._key, body) for body in self._bodies[kind])
            )
            result = end(begun)
            failed = [headers for headers in told if headers.get(b"grpc-status") != b"0"]
            if failed:
                await asyncio.sleep(PAUSE_S)
                continue
            found.append(result)
            if len(found) == count:
                return found
        raise SystemExit(f"{kind}: too many calls fail, such as {failed[:1]}")


async def infer(application: Any, key: str, body: bytes) -> dict[bytes, bytes]:
    """One call, as Envoy makes it; returns its headers and trailers."""
    sent: list[MutableMapping[str, Any]] = []
    gone: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else await gone

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    await application({**SCOPE, "headers": [*HEADERS, (b"x-api-key", key.encode())]}, receive, send)
    gone.set_result({"type": "http.disconnect"})
    return dict(pair for event in sent for pair in event.get("headers", ()))


@asynccontextmanager
async def door(file: Path) -> AsyncIterator[Any]:
    """The ingress's ASGI application with settings from `file`. Raises SystemExit with what it says if it does not start."""
    os.environ[VARIABLE] = str(file)  # noqa: TID251 - how Envoy's process tells the application
    from services.ingress.asgi import IngressApplication  # reads the environment

    application = IngressApplication()
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    lifespan = asyncio.ensure_future(application({"type": "lifespan"}, events.get, said.put))
    await events.put({"type": "lifespan.startup"})
    if (reply := await said.get())["type"] != "lifespan.startup.complete":
        raise SystemExit(reply.get("message", "the door did not start"))
    yield application
    await events.put({"type": "lifespan.shutdown"})
    await lifespan


async def answer(home: Path, file: Path, counter: Counter) -> None:
    """Starts the application, and answers each line of stdin, `calls`, `loop` or `cpu`, by a line of JSON."""
    async with door(file) as application:
        walker = Walker(application, home, counter)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await getattr(walker, line.strip())()), flush=True)


def main() -> None:
    """`python -m load.ab.calls HOME`: of a home that was up together."""
    counter = Counter()
    gc.disable()  # its callbacks are calls
    home = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory(prefix="calls-") as folder:
        uvloop.run(answer(home, settings(home, Path(folder)), counter))


if __name__ == "__main__":
    main()

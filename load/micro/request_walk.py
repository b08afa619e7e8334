"""The way of one warm request through the code: how many files, functions and calls of ours it needs.

    python -m load.micro.request_walk [--home .headrace] [--shape apart|together] [--list]

Builds the real services from the settings of a prepared home (`make up` makes one, `make down` may follow) in one process, on
unix sockets of their own (apart) or without sockets (together), sends the door's ASGI application the same gRPC ModelInfer a
hundred times, and counts five more with `sys.setprofile`. What one of the five did not need (a timer that ran meanwhile) does
not count. Envoy is left out; so are the standard library and generated code.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import struct
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import reduce
from importlib.metadata import entry_points
from operator import and_
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import yaml

from headrace import hop
from headrace.hop import config
from headrace.oip import open_inference_pb2 as oip

ROOT = Path(__file__).parents[2]
SETTINGS_VARIABLE = "HEADRACE_INGRESS_SETTINGS"
PATH = "/inference.GRPCInferenceService/ModelInfer"
WARM_UP_CALLS = 100
WALKS = 5
GENERATED = ("_pb2.py", "_pb2_grpc.py")
FLIGHT: dict[str, tuple[str, Any]] = {
    "carrier": ("BYTES", "B6"),
    "origin": ("BYTES", "JFK"),
    "dest": ("BYTES", "LAX"),
    "tailnum": ("BYTES", "N789JB"),
    "month": ("INT32", 12),
    "day_of_week": ("INT32", 5),
    "hour": ("INT32", 16),
    "minute": ("INT32", 35),
}


class Walk:
    """Counts calls of functions of this repository while it is `on`, in every thread."""

    def __init__(self) -> None:
        self.on = False
        self.calls: Counter[CodeType] = Counter()

    def install(self) -> None:
        """Before any thread that should be counted is started."""
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def take(self) -> Counter[CodeType]:
        """What was counted since the last time."""
        found, self.calls = self.calls, Counter()
        return found

    @staticmethod
    def files(calls: Counter[CodeType]) -> Counter[str]:
        """Calls by file, as paths below the repository."""
        found: Counter[str] = Counter()
        for code, count in calls.items():
            found[str(Path(code.co_filename).relative_to(ROOT))] += count
        return found

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        if self.on and event == "call" and _counts(frame.f_code.co_filename):
            self.calls[frame.f_code] += 1


def _counts(file: str) -> bool:
    ours = file.startswith(f"{ROOT}/") and "/.venv/" not in file
    return ours and not file.endswith(GENERATED) and file != __file__


class Home:
    """Settings of a prepared home, changed so that its services listen in a folder of ours."""

    def __init__(self, home: Path, sockets: Path, shape: str) -> None:
        self._config, self._sockets, self._shape = home / "run" / "config", sockets, shape
        self.services = {e.name: e.load() for e in entry_points(group="headrace.services")}

    def settings(self, service: str) -> dict[str, Any]:
        """As `headrace up` wrote them."""
        values: dict[str, Any] = yaml.safe_load((self._config / f"{service}.0.yaml").read_text())
        values["telemetry"] = {"log_level": "error", "trace_ratio": 0}
        values["server"] = {"listen": f"unix:{self._sockets / service}"}
        for callee in (*self.services, "router"):
            if isinstance(values.get(callee), dict) and "target" in values[callee]:
                values[callee]["target"] = (
                    "local" if self._shape == "together" else f"unix:{self._sockets / callee}"
                )
        return values

    def door(self) -> Path:
        """The file of the ingress's settings."""
        values = self.settings("ingress")
        values.pop("quotas", None)  # shared with the workers of a running door
        values["run_dir"] = str(self._sockets)
        values["traces"] = {"folder": str(self._sockets / "traces")}
        values["security"] = {"file": str(self._sockets / "security.jsonl")}
        values["together"] = {}
        if self._shape == "together":
            values["together"] = {
                name: {**self.settings(name), "server": {"listen": "local"}} for name in self.services
            }
        file = self._sockets / "ingress.yaml"
        file.write_text(yaml.safe_dump(values))
        return file


@asynccontextmanager
async def leaves(home: Home) -> AsyncIterator[None]:
    """Every service but the door, each with a server of its own."""
    async with AsyncExitStack() as stack:
        for name, definition in sorted(home.services.items(), key=lambda found: found[0] == "router"):
            settings = definition.config.model_validate(home.settings(name))
            telemetry = hop.Telemetry(name, config.Telemetry(log_level="error", trace_ratio=0))
            stack.push_async_callback(telemetry.close)
            runtime = hop.Runtime(name, telemetry, hop.LocalServers(telemetry))
            await stack.enter_async_context(hop.serving(definition, settings, runtime))
        yield


class Door:
    """The ingress's ASGI application, called as Envoy calls it."""

    def __init__(self, key: str) -> None:
        from services.ingress.asgi import (
            IngressApplication,  # imported last: by then the settings are written
        )

        self._app = IngressApplication()
        self._key = key.encode()
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

    async def open(self) -> asyncio.Task[None]:
        """Starts its lifespan; SystemExit with what it says if it does not start."""
        task = asyncio.ensure_future(self._app({"type": "lifespan"}, self._events.get, self._said.put))
        await self._events.put({"type": "lifespan.startup"})
        said = await self._said.get()
        if said["type"] != "lifespan.startup.complete":
            raise SystemExit(said.get("message", "the ingress did not start"))
        return task

    async def close(self, task: asyncio.Task[None]) -> None:
        """Ends the lifespan."""
        await self._events.put({"type": "lifespan.shutdown"})
        await task

    async def infer(self, body: bytes) -> bytes:
        """One gRPC call; SystemExit if it fails, with its status."""
        received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await received.put({"type": "http.request", "body": body, "more_body": False})
        sent: list[MutableMapping[str, Any]] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._app(self._scope(), received.get, send)
        headers = dict(pair for message in sent for pair in message.get("headers", ()))
        if headers.get(b"grpc-status") != b"0":
            raise SystemExit(f"the call failed: {headers.get(b'grpc-message', b'').decode()}")
        return b"".join(message.get("body", b"") for message in sent)

    def _scope(self) -> dict[str, Any]:
        headers = [
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"x-api-key", self._key),
            (b"grpc-timeout", b"5S"),
        ]
        return {
            "type": "http",
            "method": "POST",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "scheme": "http",
            "http_version": "2",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "extensions": {"http.response.trailers": {}},
        }


def request() -> bytes:
    """A flight of the demo pipeline as a gRPC message of one row."""
    message = oip.ModelInferRequest(model_name="flights", id="walk")
    for name, (kind, value) in FLIGHT.items():
        message.inputs.add(name=name, datatype=kind, shape=[1])
        data = struct.pack("<I", len(value)) + value.encode() if kind == "BYTES" else struct.pack("<i", value)
        message.raw_input_contents.append(data)
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


async def walked(home: Path, shape: str) -> Counter[CodeType]:
    """Calls that each of some equal requests makes, after many like them."""
    walk = Walk()
    walks: list[Counter[CodeType]] = []
    walk.install()
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        prepared = Home(home.absolute(), Path(folder), shape)
        os.environ[SETTINGS_VARIABLE] = str(prepared.door())  # noqa: TID251 - how Envoy's process tells the application
        async with AsyncExitStack() as stack:
            if shape == "apart":
                await stack.enter_async_context(leaves(prepared))
            door = Door((home / "demo.key").read_text().strip())
            lifespan = await door.open()
            body = request()
            for _ in range(WARM_UP_CALLS):
                await door.infer(body)
            for _ in range(WALKS):
                await asyncio.sleep(0.1)  # what a call leaves for later belongs to that call
                walk.on = True
                await door.infer(body)
                walk.on = False
                walks.append(walk.take())
            await door.close(lifespan)
    return reduce(and_, walks)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", type=Path, default=ROOT / ".headrace")
    parser.add_argument("--shape", choices=("apart", "together"), default="apart")
    parser.add_argument("--list", action="store_true", help="the files, with the calls in each")
    given = parser.parse_args()
    if not (given.home / "run" / "config" / "ingress.0.yaml").exists():
        raise SystemExit(
            f"{given.home} is not prepared: run `make up` once, or name another home with --home"
        )
    calls = asyncio.run(walked(given.home, given.shape))
    files = Walk.files(calls)
    if given.list:
        for name, count in sorted(files.items()):
            print(f"{count:6} {name}")
    print(f"{given.shape}: {len(files)} files, {len(calls)} functions, {calls.total()} calls")


if __name__ == "__main__":
    main()

"""How many calls of Python and of C requests cost, counted in one process: the door's application together with all services.

Run as a file with the code of one version first in PYTHONPATH (`load.ab.compare` does), so that the same requests are counted in
several versions. Prints JSON: by kind of request, the least [Python calls, C calls] of some rounds. Envoy is left out.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import struct
import sys
import tempfile
import threading
from collections.abc import MutableMapping
from pathlib import Path
from types import FrameType
from typing import Any

import uvloop
import yaml

from headrace.oip import open_inference_pb2 as oip

VARIABLE = "HEADRACE_INGRESS_SETTINGS"
PATH = "/inference.GRPCInferenceService/ModelInfer"
# Requests at once, and rows in each.
GROUPS = {"1 row": (1, 1), "8 rows": (1, 8), "64 rows": (1, 64), "8 requests": (8, 1), "64 requests": (64, 1)}
WARM_UP, ROUNDS = 15, 25


class Counter:
    """Counts calls in every thread that is started after it was installed, while it is `on`."""

    def __init__(self) -> None:
        self.on = False
        self.counts = [0, 0]
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def _event(self, _frame: FrameType, event: str, _: object) -> None:
        if self.on:
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
    values["together"]["monitoring"].pop("console", None)
    file = folder / "ingress.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def message(rows: list[dict[str, Any]]) -> bytes:
    """A gRPC message that asks for flights."""
    request = oip.ModelInferRequest(model_name="flights", id="counted")
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        text = isinstance(value, str)
        request.inputs.add(name=name, datatype="BYTES" if text else "INT32", shape=[len(rows)])
        pieces = [struct.pack("<I", len(v)) + v.encode() if text else struct.pack("<i", v) for v in values]
        request.raw_input_contents.append(b"".join(pieces))
    data = request.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


async def infer(application: Any, key: str, body: bytes) -> None:
    """One call, as Envoy makes it. Raises SystemExit if it fails."""
    sent: list[MutableMapping[str, Any]] = []
    gone: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else await gone

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    headers = {"content-type": "application/grpc", "te": "trailers", "x-api-key": key, "grpc-timeout": "5S"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "scheme": "http",
        "http_version": "2",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "extensions": {"http.response.trailers": {}},
    }
    await application(scope, receive, send)
    gone.set_result({"type": "http.disconnect"})
    told = dict(pair for event in sent for pair in event.get("headers", ()))
    if told.get(b"grpc-status") != b"0":
        raise SystemExit(f"a call failed: {told}")


async def counted(home: Path, counter: Counter) -> dict[str, list[list[int]]]:
    """Counts of each round, by kind of request."""
    from services.ingress.asgi import IngressApplication  # reads the environment

    application = IngressApplication()
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    lifespan = asyncio.ensure_future(application({"type": "lifespan"}, events.get, said.put))
    await events.put({"type": "lifespan.startup"})
    if (reply := await said.get())["type"] != "lifespan.startup.complete":
        raise SystemExit(reply.get("message", "the door did not start"))
    key = (home / "demo.key").read_text().strip()
    flights = [json.loads(line) for line in (home / "data/requests.jsonl").read_text().splitlines()]
    found = {}
    for name, (at_once, rows) in GROUPS.items():
        bodies = [message(flights[i : i + rows]) for i in range(at_once)]
        found[name] = [await _round(application, key, bodies, counter) for _ in range(WARM_UP + ROUNDS)][
            WARM_UP:
        ]
    await events.put({"type": "lifespan.shutdown"})
    await lifespan
    return found


async def _round(application: Any, key: str, bodies: list[bytes], counter: Counter) -> list[int]:
    await asyncio.sleep(0.02)  # what earlier requests left for later
    counter.counts = [0, 0]
    counter.on = True
    await asyncio.gather(*(infer(application, key, body) for body in bodies))
    counter.on = False
    return counter.counts


def main() -> None:
    """`python -m load.ab.calls HOME`: of a home that was up together."""
    counter = Counter()
    home = Path(sys.argv[1]).absolute()
    gc.disable()  # its callbacks are calls
    with tempfile.TemporaryDirectory(prefix="calls-") as folder:
        os.environ[VARIABLE] = str(settings(home, Path(folder)))  # noqa: TID251 - how Envoy's process tells the application
        found = uvloop.run(counted(home, counter))
    print(
        json.dumps(
            {kind: [min(counts) for counts in zip(*rounds, strict=True)] for kind, rounds in found.items()}
        )
    )


if __name__ == "__main__":
    main()

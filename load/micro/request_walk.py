"""The way of one warm request through the code: how many files, functions and calls of ours it needs.

    python -m load.micro.request_walk [--home .headrace] [--shape apart|together] [--list] [--budget FILE]

Builds the real services from the settings of a prepared home (`make up` makes one, `make down` may follow) in one process, on
unix sockets of their own (apart) or without sockets (together), sends the door's ASGI application the same gRPC ModelInfer a
hundred times, and counts some more with `sys.setprofile`. What one of them did not need (a timer that ran meanwhile) does
not count. Envoy is left out; so are the standard library and generated code.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import tomllib
from collections import Counter
from collections.abc import AsyncIterator
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
from load.ab.calls import door, infer, message

ROOT = Path(__file__).parents[2]
WARM_UP_CALLS = 100
WALKS = 20
GENERATED = ("_pb2.py", "_pb2_grpc.py")
FLIGHT = {
    "carrier": "B6",
    "origin": "JFK",
    "dest": "LAX",
    "tailnum": "N789JB",
    "month": 12,
    "day_of_week": 5,
    "hour": 16,
    "minute": 35,
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
    return ours and not file.endswith(GENERATED) and not file.startswith(f"{ROOT}/load/")


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


async def walked(home: Path, shape: str) -> Counter[CodeType]:
    """Calls that each of some equal requests makes, after many like them."""
    walk = Walk()
    walks: list[Counter[CodeType]] = []
    walk.install()
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        prepared = Home(home.absolute(), Path(folder), shape)
        async with AsyncExitStack() as stack:
            if shape == "apart":
                await stack.enter_async_context(leaves(prepared))
            application = await stack.enter_async_context(door(prepared.door()))
            key, body = (home / "demo.key").read_text().strip(), message([FLIGHT])
            for _ in range(WARM_UP_CALLS):
                await infer(application, key, body)
            for _ in range(WALKS):
                await asyncio.sleep(0.1)  # what a call leaves for later belongs to that call
                walk.on = True
                told = await infer(application, key, body)
                walk.on = False
                if told.get(b"grpc-status") != b"0":
                    raise SystemExit(f"a call failed: {told}")
                walks.append(walk.take())
    return reduce(and_, walks)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", type=Path, default=ROOT / ".headrace")
    parser.add_argument("--shape", choices=("apart", "together"), default="apart")
    parser.add_argument("--list", action="store_true", help="the files, with the calls in each")
    parser.add_argument("--budget", type=Path, help="TOML whose `walk_files` are the most that there may be")
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
    if given.budget and len(files) > (most := tomllib.loads(given.budget.read_text())["walk_files"]):
        raise SystemExit(
            f"{given.budget} allows {most} files: `--list` names them; join or leave out what is not needed"
        )


if __name__ == "__main__":
    main()

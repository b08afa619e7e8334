"""The way of one warm request through the code: how many files, functions and calls of ours it needs, services apart.

    python -m load.micro.request_walk [--home .headrace] [--list] [--budget FILE]

Builds the real services from the settings of a prepared home (`make up` makes one, `make down` may follow) in one process, on
unix sockets of their own, sends the door's ASGI application the same gRPC ModelInfer a hundred times, and counts some more.
What one of them did not need (a timer that ran meanwhile) does not count. Envoy is left out; so are the standard library and
generated code. In one process: `python -m load calls`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
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
from load.ab import calls

ROOT = Path(__file__).parents[2]
WARM_UP_CALLS = 100
WALKS = 20
GENERATED = ("_pb2.py", "_pb2_grpc.py")
SERVICES = {entry.name: entry.load() for entry in entry_points(group="headrace.services")}


class Walk(calls.Counter):
    """Counts calls of functions of this repository while it is `on`."""

    def __init__(self) -> None:
        self.functions: Counter[CodeType] = Counter()
        super().__init__()

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        if self.on and event == "call" and _counts(frame.f_code.co_filename):
            self.functions[frame.f_code] += 1


def _counts(file: str) -> bool:
    ours = file.startswith(f"{ROOT}/") and "/.venv/" not in file
    return ours and not file.endswith(GENERATED) and not file.startswith(f"{ROOT}/load/")


def settings(file: Path, sockets: Path) -> dict[str, Any]:
    """As `headrace up` wrote them, but for the sockets, which are in a folder of ours."""
    values: dict[str, Any] = yaml.safe_load(file.read_text())
    for callee in SERVICES.keys() & values.keys():
        values[callee]["target"] = f"unix:{sockets / callee}"
    return values


@asynccontextmanager
async def leaves(home: Path, sockets: Path) -> AsyncIterator[None]:
    """Every service but the door, each with a server of its own."""
    async with AsyncExitStack() as stack:
        for name, definition in sorted(SERVICES.items(), key=lambda found: found[0] == "router"):
            values = settings(home / f"run/config/{name}.0.yaml", sockets)
            values["server"] = {"listen": f"unix:{sockets / name}"}
            values["telemetry"] = {"log_level": "error", "trace_ratio": 0}
            telemetry = hop.Telemetry(name, config.Telemetry(log_level="error", trace_ratio=0))
            stack.push_async_callback(telemetry.close)
            runtime = hop.Runtime(name, telemetry, hop.LocalServers(telemetry))
            await stack.enter_async_context(
                hop.serving(definition, definition.config.model_validate(values), runtime)
            )
        yield


async def walked(home: Path) -> Counter[CodeType]:
    """Calls that each of some equal requests makes, after many like them."""
    walk = Walk()
    walks: list[Counter[CodeType]] = []
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        sockets = Path(folder)
        file = calls.settings(home.absolute(), sockets)
        file.write_text(yaml.safe_dump(settings(file, sockets)))
        async with leaves(home.absolute(), sockets), calls.door(file) as application:
            key, flight = (
                (home / "demo.key").read_text().strip(),
                (home / "data/requests.jsonl").open().readline(),
            )
            for i in range(WARM_UP_CALLS + WALKS):
                if i >= WARM_UP_CALLS:
                    await asyncio.sleep(0.1)  # what a call leaves for later belongs to that call
                walk.functions, walk.on = Counter(), i >= WARM_UP_CALLS
                told = await calls.infer(application, key, calls.message([json.loads(flight)]))
                walk.on = False
                if told.get(b"grpc-status") != b"0":
                    raise SystemExit(f"a call failed: {told}")
                walks.append(walk.functions)
    return reduce(and_, walks[WARM_UP_CALLS:])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", type=Path, default=ROOT / ".headrace")
    parser.add_argument("--list", action="store_true", help="the files, with the calls in each")
    parser.add_argument("--budget", type=Path, help="TOML whose `walk_files` are the most that there may be")
    given = parser.parse_args()
    if not (given.home / "run" / "config" / "ingress.0.yaml").exists():
        raise SystemExit(
            f"{given.home} is not prepared: run `make up` once, or name another home with --home"
        )
    functions = asyncio.run(walked(given.home))
    files = Counter[str]()
    for code, count in functions.items():
        files[str(Path(code.co_filename).relative_to(ROOT))] += count
    if given.list:
        print("\n".join(f"{count:6} {name}" for name, count in sorted(files.items())))
    print(f"apart: {len(files)} files, {len(functions)} functions, {functions.total()} calls")
    if given.budget and len(files) > (most := tomllib.loads(given.budget.read_text())["walk_files"]):
        raise SystemExit(
            f"{given.budget} allows {most} files: `--list` names them; join or leave out what is not needed"
        )


if __name__ == "__main__":
    main()

"""What a refusal costs in Envoy alone: the least that it can, and by the ingress's script. No application is in it.

What three times too much leaves for answers is bounded by this: Envoy has to take in each request before it can refuse it.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml
from numpy.typing import NDArray

from headrace.hop.config import ClientSettings
from headrace.hop.errors import Code, Fault, Reason
from load.generator.arrivals import arrivals, steady
from load.generator.load_generator import Caller, Plan, Samples
from load.generator.open_loop import PATH, run_plan
from services.ingress.config import Http, IngressSettings
from services.ingress.envoy import configuration as envoy
from services.ingress.protocols.grpc.frames import status_headers

_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
# Changes Envoy's HTTP filters so that they refuse each request.
_Refuse: TypeAlias = Callable[[dict[str, Any]], None]
_MESSAGE_BYTES = 260
_READY_S = 20.0


def run(options: argparse.Namespace) -> None:
    """`refusals`."""
    print("| refused by | offered/s | p50 ms | p99 ms | Envoy's CPU µs a request | others' cores |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    for rate in options.rates:
        for name, refuse in (("Envoy's direct response", _directly), ("the door's script", _by_script)):
            samples, times = _measured(refuse, rate, options)
            took = (samples.ended - times) * 1000
            print(
                f"| {name} | {rate:.0f} | {np.percentile(took, 50):.2f} | {np.percentile(took, 99):.2f} "
                f"| {samples.servers_cpu_s / len(times) * 1e6:.1f} | {samples.other_cores:.2f} |",
                flush=True,
            )


def _directly(manager: dict[str, Any]) -> None:
    manager["http_filters"] = [_ROUTER]
    manager["access_log"] = []


def _by_script(manager: dict[str, Any]) -> None:
    """The script as it is, but for its question whether there is room: there never is."""
    told = {b":status": b"200", b"content-type": b"application/grpc"}
    told |= dict(
        status_headers(Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED, "no room", retry_after_s=0.1))
    )
    table = ", ".join(f'["{name.decode()}"] = "{value.decode()}"' for name, value in told.items())
    [script] = [f for f in manager["http_filters"] if f["name"] == "envoy.filters.http.lua"]
    source = script["typed_config"]["default_source_code"]
    head = "local function full(gate, now)\n"
    assert head in source["inline_string"]
    always = f"local ALWAYS = {{{table}}}\n{head}  gate.told = ALWAYS\n  do return true end\n"
    source["inline_string"] = source["inline_string"].replace(head, always)
    manager["http_filters"] = [*manager["http_filters"][:2], _ROUTER]


def _measured(
    refuse: _Refuse, rate: float, options: argparse.Namespace
) -> tuple[Samples, NDArray[np.float64]]:
    times = arrivals(steady(rate, options.seconds), np.random.default_rng(1))
    count = len(times)
    with tempfile.TemporaryDirectory() as folder, _envoy(Path(folder), refuse) as (address, pid):
        plan = Plan(
            address,
            PATH,
            [Caller("load", "hr_key", 1.0)],
            [bytes(_MESSAGE_BYTES)],
            times,
            np.zeros(count, np.uint16),
            np.zeros(count, np.uint32),
            frozenset(),
            servers=frozenset({pid}),
            cpus=options.clients or frozenset({max(os.sched_getaffinity(0))}),
        )
        run_plan(plan)
        return run_plan(plan), times


@contextmanager
def _envoy(folder: Path, refuse: _Refuse) -> Iterator[tuple[str, int]]:
    """Envoy as the ingress has it, on one core, with other filters: its address and process."""
    ports = _free_ports(2)
    settings = IngressSettings(
        http=Http(plaintext=f"127.0.0.1:{ports[0]}"),
        admin=f"127.0.0.1:{ports[1]}",
        run_dir=folder,
        access_log=str(folder / "access.log"),
        pipelines=folder,
        tenants=folder,
        pepper=folder,
        router=ClientSettings(target="unix:/none"),
    )
    rendered = envoy.render(settings)
    refuse(_manager(rendered))
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(rendered))
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, *envoy.command(settings, file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(ports[0])
        yield f"127.0.0.1:{ports[0]}", process.pid
    finally:
        process.terminate()
        process.wait()


def _manager(rendered: Mapping[str, Any]) -> dict[str, Any]:
    manager: dict[str, Any] = rendered["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
        "typed_config"
    ]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {"prefix": "/"}, "direct_response": {"status": 429}}
    ]
    return manager


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)

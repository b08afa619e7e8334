"""Pictures through the ingress of a running home in a closed loop: rate, latency and memory. Needs samples of scikit-image."""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

from headrace.oip import open_inference_pb2 as oip
from load.generator.closed_loop import Target, drive
from load.systems.headrace import status
from load.systems.processes import children_of, pss_mib

_PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def run(options: argparse.Namespace) -> None:
    """`moderation`: prints a table row per concurrency."""
    found = status(options.home)
    pids = frozenset(children_of(s["pid"] for s in found["services"].values()))
    messages = [_message(name) for name in _PICTURES]
    target = Target(found["endpoints"]["grpc"], messages, found["demo_key"], pids, lambda _: "not verified")
    print(
        "| c | pictures/s | p50 ms | p99 ms | server CPU ms | failed | PSS MiB |\n|--:|--:|--:|--:|--:|--:|--:|"
    )
    for at_once in (1, 4, 16):
        figures = drive(target, at_once, options.seconds, seed=1)
        print(
            f"| {at_once} | {figures.rate:.1f} | {figures.p50_us / 1e3:.0f} | {figures.p99_us / 1e3:.0f} "
            f"| {figures.server_us / 1e3:.0f} | {figures.failed} | {pss_mib(pids):.0f} |",
            flush=True,
        )


def _message(name: str) -> bytes:
    import skimage  # takes a second, and nothing else needs it

    data = (Path(skimage.__file__).parent / "data" / name).read_bytes()
    request = oip.ModelInferRequest(model_name="moderation")
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(data)) + data)
    return request.SerializeToString()

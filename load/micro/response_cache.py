"""What a kept answer costs beside one that is computed: pictures, where all but the key is saved, and flights, whose key needs
the features.

One request at a time (c = 1). Each pipeline runs as it is, and once more under another name with the key `cache` and the version
of its model: first rows that nobody asked before (`miss`), then the same rows again (`hit`). The three take turns block by block.
"""

from __future__ import annotations

import argparse
import io
import statistics
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from headrace.oip import open_inference_pb2 as oip
from headrace.repository.names import version_key
from load.generator.flight_requests import infer_message, rows
from load.micro.features.added_time import Infer, door
from load.systems.headrace import PIPELINES, Running, Setup, configuration, headrace, prepare
from load.systems.processes import CpuMeter, OtherWork, turn

_PLAIN, _MISS, _HIT = "no cache", "miss", "hit"
_CACHED = "cached_"
_RULE = {"ttl": "1h", "max_bytes": "256MiB"}
_BLOCKS = 8


@dataclass
class Figures:
    """Of one way: seconds that requests took, CPU seconds of all processes, and how many answers were kept ones."""

    took: list[float] = field(default_factory=list)
    cpu: float = 0.0
    kept: int = 0


def documents(home: Path) -> list[dict[str, Any]]:
    """The demo's documents, and each once more with a cache."""
    found = []
    for name in ("flights", "moderation"):
        plain: dict[str, Any] = yaml.safe_load((PIPELINES / name / "pipeline.yaml").read_text())
        cached: dict[str, Any] = yaml.safe_load((PIPELINES / name / "pipeline.yaml").read_text())
        cached |= {"pipeline": _CACHED + name, "cache": _RULE}
        for stage in cached["stages"]:
            if "model" in stage:
                versions = [p.name for p in (home / "models" / stage["name"]).iterdir() if p.is_dir()]
                stage["version"] = max(versions, key=version_key)
        found += [plain, cached]
    return found


def pictures(count: int) -> list[bytes]:
    """Photographs of 512 × 512 pixels (about 90 KB as JPEG) that differ in a comment, so that all cost the same."""
    from PIL import Image
    from skimage import data

    image = Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]  # has no types
    made = []
    for i in range(count):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=92, comment=f"picture {i} at {time.time_ns()}".encode())
        made.append(file.getvalue())
    return made


def picture_message(pipeline: str, picture: bytes) -> bytes:
    request = oip.ModelInferRequest(model_name=pipeline)
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(picture)) + picture)
    return request.SerializeToString()


def block(infer: Infer, messages: Sequence[bytes], pids: frozenset[int], into: Figures) -> None:
    """Sends one message after the other."""
    cpu = CpuMeter(pids)
    for message in messages:
        began = time.perf_counter()
        answer = infer(message)
        into.took.append(time.perf_counter() - began)
        if b"cached_rows" in answer:
            into.kept += 1
    into.cpu += cpu.seconds()


def compare(
    infer: Infer,
    running: Running,
    items: Sequence[Any],
    message: Callable[[str, Any], bytes],
    pipeline: str,
) -> dict[str, Figures]:
    """Each item is asked of the pipeline without a cache, then twice of the one with it."""
    found = {way: Figures() for way in (_PLAIN, _MISS, _HIT)}
    size = max(len(items) // _BLOCKS, 1)
    for start in range(0, len(items), size):
        part = items[start : start + size]
        plain = [message(pipeline, item) for item in part]
        cached = [message(_CACHED + pipeline, item) for item in part]
        for way, messages in ((_PLAIN, plain), (_MISS, cached), (_HIT, cached)):
            block(infer, messages, running.pids, found[way])
    return found


def table(pipeline: str, found: dict[str, Figures], busy: float) -> str:
    lines = []
    for way, figures in found.items():
        p50 = statistics.median(figures.took) * 1e3
        cpu, count = figures.cpu / len(figures.took) * 1e3, len(figures.took)
        ratio = statistics.median(found[_MISS].took) * 1e3 / p50
        lines.append(
            f"| {pipeline} | {way} | {count} | {figures.kept} | {p50:.2f} | {ratio:.1f} | {cpu:.2f} | {busy:.1f} |"
        )
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """`response-cache`: measures both pipelines, prints a row for each way."""
    prepare(options.home)
    setup = Setup(options.home, options.shape, documents=documents(options.home))
    flights, images = rows(setup.home), pictures(options.pictures + 10)
    with headrace(setup) as running, door(running) as infer, turn():
        print(configuration(setup))
        print("\n| pipeline | way | requests | kept answers | p50 ms | miss ÷ this | CPU ms | other cores |")
        print("|---|---|--:|--:|--:|--:|--:|--:|")
        compare(infer, running, flights[:200], infer_message, "flights")
        compare(infer, running, images[:10], picture_message, "moderation")
        for pipeline, items, message in (
            ("flights", flights[200 : 200 + options.requests], infer_message),
            ("moderation", images[10:], picture_message),
        ):
            others = OtherWork(set(running.pids))
            found = compare(infer, running, items, message, pipeline)
            print(table(pipeline, found, others.cores()), flush=True)

"""What the features stage adds to a request at c = 1: `flights` against the same document without it, in one running system.

Each flight is asked of both, one right after the other, in an order drawn anew. The features come from a Redis of this run's
own; without the stage, its columns are inputs with defaults.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import yaml

from deploy.pipelines.flights.feature_store import create, materialize
from load.generator.flight_requests import infer_message, rows
from load.systems.headrace import PIPELINES, Setup, Shape, headrace
from load.systems.processes import OtherWork, turn
from load.systems.redis_store import redis_server

_WITH, _WITHOUT = "flights", "flights_bare"
_WARM_UP = 300


def added_ms(home: Path, shape: Shape, count: int) -> tuple[float, float]:
    """Milliseconds that the stage adds to a request, the median of `count` pairs; and the cores that others used meanwhile."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as redis:
        repo = Path(name) / "repo"
        materialize(create(repo, home / "data", f"127.0.0.1:{redis.port}"), datetime.now(UTC))
        messages = [{n: infer_message(n, row) for n in (_WITH, _WITHOUT)} for row in rows(home)]
        setup = Setup(home, shape, feast=repo, documents=(_bare(),))
        with headrace(setup) as running, grpc.insecure_channel(running.target) as channel, turn():
            metadata = (("authorization", f"Bearer {next(iter(running.keys.values()))}"),)
            call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

            def infer(message: bytes) -> None:
                call(message, metadata=metadata, timeout=10)

            _differences(infer, messages[:_WARM_UP])
            others = OtherWork({*running.pids, redis.pid})
            found = _differences(infer, messages[_WARM_UP : _WARM_UP + count])
            return statistics.median(found) * 1e3, others.cores()


def _differences(infer: Callable[[bytes], None], messages: Sequence[Mapping[str, bytes]]) -> list[float]:
    """Seconds that the one with the stage took longer, for each pair."""
    dice = random.Random(5)
    found = []
    for message in messages:
        took = {}
        for pipeline in dice.sample([_WITH, _WITHOUT], 2):
            sent = time.perf_counter()
            infer(message[pipeline])
            took[pipeline] = time.perf_counter() - sent
        found.append(took[_WITH] - took[_WITHOUT])
    return found


def _bare() -> dict[str, Any]:
    """The document without the stage: what it would bring is an input with a default."""
    document: dict[str, Any] = yaml.safe_load((PIPELINES / _WITH / "pipeline.yaml").read_text())
    [stage] = [stage for stage in document["stages"] if "features" in stage]
    document["pipeline"] = _WITHOUT
    document["stages"].remove(stage)
    [imputed] = [step["impute"]["columns"] for step in document["stages"][0]["steps"] if "impute" in step]
    for view in stage["views"].values():
        for name, kind in view["features"].items():
            document["inputs"][name] = {"type": kind, "default": imputed[name]}
    return document


def run(options: argparse.Namespace) -> dict[str, float]:
    """`features-added`: measures and prints. Returns milliseconds by shape, and `others`."""
    figures = {"others": 0.0}
    print("| shape | added, ms | others' cores |\n|---|--:|--:|")
    for shape in options.shapes:
        added, others = added_ms(options.home, shape, options.requests)
        print(f"| {shape} | {added:.2f} | {others:.2f} |", flush=True)
        figures |= {shape: added, "others": max(figures["others"], others)}
    return figures

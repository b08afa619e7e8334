"""What the features stage adds to a request: `flights` against the same pipeline without it, in one running system.

One request at a time (c = 1); each flight is asked of both pipelines, one right after the other, in an order drawn anew. The
features come from a Redis of this run's own. Without the stage, its columns are inputs that have defaults.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import grpc
import yaml

from deploy.pipelines.flights.feature_store import create, materialize
from headrace.oip import open_inference_pb2 as oip
from load.generator.flight_requests import infer_message, rows
from load.systems.headrace import PIPELINES, Running, Setup, configuration, headrace
from load.systems.processes import OtherWork, turn
from load.systems.redis_store import redis_server

INFER = "/inference.GRPCInferenceService/ModelInfer"
WITH, WITHOUT = "flights", "flights_bare"
_WARM_UP = 300
# Of so many pairs the median is taken, to see how much it moves.
_BLOCK = 250
_MICRO = 1e6
Infer = Callable[[bytes], bytes]


def bare() -> dict[str, Any]:
    """The document without the stage: what it would bring is an input with a default."""
    document: dict[str, Any] = yaml.safe_load((PIPELINES / WITH / "pipeline.yaml").read_text())
    [stage] = [stage for stage in document["stages"] if "features" in stage]
    document["pipeline"] = WITHOUT
    document["stages"].remove(stage)
    [imputed] = [step["impute"]["columns"] for step in document["stages"][0]["steps"] if "impute" in step]
    for view in stage["views"].values():
        for name, kind in view["features"].items():
            document["inputs"][name] = {"type": kind, "default": imputed[name]}
    return document


@contextmanager
def door(running: Running) -> Iterator[Infer]:
    """A client that costs little: messages as bytes, one at a time."""
    [key] = running.keys.values()
    metadata = (("authorization", f"Bearer {key}"),)
    with grpc.insecure_channel(running.target) as channel:
        call: Any = channel.unary_unary(INFER)
        yield lambda message: cast("bytes", call(message, metadata=metadata, timeout=10))


def pairs(
    infer: Infer, messages: Sequence[Mapping[str, bytes]], dice: random.Random
) -> list[dict[str, float]]:
    """Seconds that each message took, by pipeline."""
    found = []
    for message in messages:
        order = [WITH, WITHOUT]
        dice.shuffle(order)
        took = {}
        for pipeline in order:
            began = time.perf_counter()
            infer(message[pipeline])
            took[pipeline] = time.perf_counter() - began
        found.append(took)
    return found


def _probability(answer: bytes) -> bytes:
    reply = oip.ModelInferResponse.FromString(answer)
    names = [output.name for output in reply.outputs]
    return reply.raw_output_contents[names.index("probability")]


def check(infer: Infer, messages: Sequence[Mapping[str, bytes]]) -> None:
    """Raises SystemExit unless the features make a difference to most answers."""
    differ = sum(_probability(infer(m[WITH])) != _probability(infer(m[WITHOUT])) for m in messages)
    if differ < len(messages) * 0.9:
        raise SystemExit(f"only {differ} of {len(messages)} answers stand on features: the store is not read")


def measure(setup: Setup, count: int) -> str:
    """One shape: a row of the table."""
    chosen = rows(setup.home)[: count + _WARM_UP]
    messages = [{name: infer_message(name, row) for name in (WITH, WITHOUT)} for row in chosen]
    dice = random.Random(5)
    with headrace(setup) as running, door(running) as infer:
        check(infer, messages[:100])
        pairs(infer, messages[:_WARM_UP], dice)
        with turn():
            others = OtherWork(set(running.pids))
            found = pairs(infer, messages[_WARM_UP:], dice)
            busy = others.cores()
    p50 = {name: statistics.median(took[name] for took in found) * _MICRO for name in (WITH, WITHOUT)}
    added = [(took[WITH] - took[WITHOUT]) * _MICRO for took in found]
    blocks = [statistics.median(added[i : i + _BLOCK]) for i in range(0, len(added), _BLOCK)]
    return (
        f"| {setup.shape} | {p50[WITHOUT]:.0f} | {p50[WITH]:.0f} | {p50[WITH] - p50[WITHOUT]:.0f} "
        f"| {statistics.median(added):.0f} [{min(blocks):.0f}–{max(blocks):.0f}] | {busy:.1f} |"
    )


def run(options: argparse.Namespace) -> None:
    """`features-added`: loads the store, measures, prints."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as redis:
        repo = Path(name) / "repo"
        materialize(create(repo, options.home / "data", f"127.0.0.1:{redis.port}"), datetime.now(UTC))
        print(configuration(Setup(options.home, options.shapes[0], feast=repo)))
        print(
            "\n| shape | p50 without µs | p50 with µs | difference µs | median of pairs µs [blocks] | other cores |"
        )
        print("|---|--:|--:|--:|--:|--:|")
        for shape in options.shapes:
            setup = Setup(options.home, shape, feast=repo, documents=(bare(),))
            print(measure(setup, options.requests), flush=True)

"""What people would pick instead, run by the peers' own harness (`--peers FOLDER`, prepared by its setup.sh)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headrace.repository import Repository
from load.driving import Drive
from load.measuring import children_of
from load.rows import perf_analyzer_inputs, rows

Part = Literal["pipeline", "model"]
_KEY = "bench-key-1"
# What the peers call our inputs.
_RENAMED = {"day_of_week": "dow"}
_VECTORS = 5_000


def harness(folder: Path, home: Path) -> tuple[Any, Any]:
    """Its modules `bench` and `peers`, which shall run our model: the same file in every system."""
    import importlib

    root = Path(os.environ.get("PEERS_ROOT", "~/.cache/headrace-peers")).expanduser()  # noqa: TID251 - theirs
    art = home / "peers-art"
    art.mkdir(exist_ok=True)
    for file in (root / "art").iterdir():
        if not (art / file.name).exists():
            (art / file.name).symlink_to(file)
    for model in ("flights_light", "flights_heavy"):
        repository = Repository(home / "models")
        artifact = repository.read(model, max(repository.versions(model), key=int))
        (art / f"{model}.onnx").unlink(missing_ok=True)
        (art / f"{model}.onnx").write_bytes(artifact.content)
    os.environ["PEERS_ART"] = str(art)  # noqa: TID251 - how the harness is told
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # noqa: TID251 - its folder may be read-only
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    return importlib.import_module("bench"), importlib.import_module("peers")


def _wait_for(port: int, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing listens on port {port} after {within_s:.0f} s") from None
            time.sleep(0.05)


@contextmanager
def redis_server(folder: Path, home: Path) -> Iterator[str]:
    """The store of all systems, with the peers' features in it; host:port."""
    _, table = harness(folder, home)
    address = f"127.0.0.1:{table.REDIS_PORT}"
    server = subprocess.Popen(
        ["redis-server", "--port", str(table.REDIS_PORT), "--save", "", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(table.REDIS_PORT)
        seed = [f"{table.ROOT}/v-ref/bin/python", "-B", "-c", "import common; common.seed_redis()"]
        subprocess.run(seed, cwd=folder, check=True)
        yield address
    finally:
        server.terminate()
        server.wait()


def our_features(home: Path, redis: str) -> Path:
    """Fills the store with our features, too (Feast on Redis); the folder of its feature_store.yaml."""
    from deploy.pipelines.flights.feature_store import create, materialize

    folder = home / "feast-redis"
    materialize(create(folder, home / "data", redis), datetime.now(UTC))
    return folder


@contextmanager
def peer(folder: Path, part: Part, name: str, home: Path) -> Iterator[tuple[Drive, set[int]]]:
    """One peer, running: where to send, and its processes."""
    bench, table = harness(folder, home)
    spec = (table.PART_B if part == "pipeline" else table.PART_A)[name]
    server = bench.Server(spec, f"{part}-{name}")
    server.start()
    try:
        model = "flights_pipeline" if part == "pipeline" else "flights_light"
        drive = Drive(f"127.0.0.1:{spec['port']}", model, _inputs(home, part, name), _KEY)
        yield drive, set(children_of(p.pid for p in server.procs))
    finally:
        server.stop()


def _inputs(home: Path, part: Part, name: str) -> Path:
    if part == "pipeline":
        return perf_analyzer_inputs(rows(home), home / "data" / "perf_analyzer_peers.json", _RENAMED)
    # Servers with a batch dimension of their own take rows, the others batches of one.
    return vectors(home, [24] if name.startswith(("triton", "headrace")) else [1, 24])


def vectors(home: Path, shape: list[int]) -> Path:
    """Different inputs of the model alone, for perf_analyzer."""
    path = home / "data" / f"vectors_{len(shape)}.json"
    values = np.random.default_rng(3).uniform(0, 100, (_VECTORS, 24)).round(2)
    data = [{"input": {"content": v, "shape": shape}} for v in values.tolist()]
    path.write_text(json.dumps({"data": data}))
    return path

"""Other systems that do the same, run by the peers' own harness (`--peers FOLDER`, prepared by its setup.sh)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from headrace.repository import Repository
from load.generator.closed_loop import Target
from load.generator.flight_requests import rows, rows_message, vector_message, vectors
from load.generator.verification import verify_model
from load.systems.processes import children_of
from load.systems.redis_store import redis_server

Part = Literal["pipeline", "model"]
_KEY = "bench-key-1"
# What the peers call our inputs.
_RENAMED = {"day_of_week": "dow"}


def harness(folder: Path, home: Path) -> tuple[Any, Any]:
    """Imports its modules `bench` and `peers` and has them use our model file, so that it is the same in every system."""
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


@contextmanager
def shared_redis(folder: Path, home: Path) -> Iterator[tuple[str, int]]:
    """A Redis for all systems, with the peers' features in it: its host:port and pid."""
    _, table = harness(folder, home)
    with redis_server(table.REDIS_PORT) as redis:
        seed = [f"{table.ROOT}/v-ref/bin/python", "-B", "-c", "import common; common.seed_redis()"]
        subprocess.run(seed, cwd=folder, check=True)
        yield f"127.0.0.1:{redis.port}", redis.pid


def our_features(home: Path, redis: str) -> Path:
    """Writes our features into the store, too (Feast on Redis). Returns the folder of feature_store.yaml."""
    from deploy.pipelines.flights.feature_store import create
    from headrace.featurestore.writer import materialize

    folder = home / "feast-redis"
    materialize(create(folder, home / "data", redis), datetime.now(UTC))
    return folder


@contextmanager
def peer(folder: Path, part: Part, name: str, home: Path) -> Iterator[Target]:
    """One running peer. Its answers are verified only if it serves the model alone, as it makes its features itself."""
    bench, table = harness(folder, home)
    spec = (table.PART_B if part == "pipeline" else table.PART_A)[name]
    server = bench.Server(spec, f"{part}-{name}")
    server.start()
    try:
        pids = frozenset(children_of(p.pid for p in server.procs))
        address = f"127.0.0.1:{spec['port']}"
        if part == "pipeline":
            messages = [rows_message("flights_pipeline", [row], _RENAMED) for row in rows(home)]
            yield Target(
                address, messages, _KEY, pids, lambda _: "answers not verified: features of its own making"
            )
        else:
            yield model_target(home, address, _KEY, pids)
    finally:
        server.stop()


def model_target(home: Path, address: str, key: str, pids: frozenset[int]) -> Target:
    """A server of the light model alone; each request is a batch of one row."""
    inputs = vectors()
    messages = [vector_message("flights_light", vector, [1, 24]) for vector in inputs]
    return Target(
        address, messages, key, pids, lambda replies: verify_model(home, "flights_light", inputs, replies)
    )

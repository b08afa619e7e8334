"""A whole system under traffic that two pairs of Prometheus and Alertmanager watch: one in real time, one sixty times as fast."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import grpc

from headrace.cli.installation import layout
from headrace.slo import SloSettings
from headrace.slo.servers import PrometheusApi
from tests.libs.slo.alert_world import Receiver, until, watched
from tests.pipeline.test_rollouts import DOCUMENT
from tests.redis_server import RedisServer
from tests.repeated import repeated
from tests.services.executor.executor_models import lookup
from tests.system import (
    HOME,
    ROOT,
    System,
    add_document,
    headrace,
    override,
    prepared,
    row_request,
)

PACE = 60.0
PLACE = layout.of(HOME)
_BATCH, _EVERY_S = 8, 0.05
Rows = Callable[[], list[dict[str, Any]]]


@dataclass(slots=True)
class Watch:
    """One Prometheus with its Alertmanager; `receiver`: who is told; `marked`: how much it was told before the mark."""

    receiver: Receiver
    settings: SloSettings
    marked: int = 0

    @property
    def prometheus(self) -> PrometheusApi:
        return PrometheusApi(self.settings.prometheus)

    def mark(self) -> None:
        """What was told before does not count for `tells`."""
        self.marked = len(self.receiver.told)

    def tells(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether such an alert was told since the mark."""
        wanted = {"alertname": name, **labels}
        told = self.receiver.told[self.marked :]
        return any(a.status == "firing" and wanted.items() <= a.labels.items() for a in told)

    def ended(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether the end of all such alerts was told."""
        wanted = {"alertname": name, **labels}
        last = {a.fingerprint: a.status for a in self.receiver.told if wanted.items() <= a.labels.items()}
        return bool(last) and set(last.values()) == {"resolved"}


class Traffic:
    """Batches of rows, twenty a second, until the context is left. What fails is counted. `rows`: the next batch; may be replaced
    meanwhile; None: nobody asks."""

    def __init__(self, system: System, pipeline: str, rows: Rows) -> None:
        self._system = system
        self._pipeline = pipeline
        self.rows: Rows | None = rows
        self.failed = self.answered = 0

    @contextmanager
    def sent(self) -> Iterator[Traffic]:
        with repeated(self._send, _EVERY_S):
            yield self

    @contextmanager
    def of(self, rows: Rows | None) -> Iterator[None]:
        """Other rows meanwhile."""
        usual, self.rows = self.rows, rows
        try:
            yield
        finally:
            self.rows = usual

    def _send(self) -> None:
        if (rows := self.rows) is None:
            return
        try:
            self._system.predict(row_request(*rows(), pipeline=self._pipeline))
            self.answered += 1
        except grpc.RpcError:
            self.failed += 1


def in_turn(rows: list[dict[str, Any]]) -> Rows:
    """Eight after eight of them, without end."""
    at = itertools.count(0, _BATCH)

    def batch() -> list[dict[str, Any]]:
        first = next(at)
        return [rows[(first + i) % len(rows)] for i in range(_BATCH)]

    return batch


def dice(lower: float = 0.5) -> Rows:
    """Numbers from 0 to 7; this share of them below 4."""
    drawn = random.Random(1)
    return lambda: [{"x": drawn.randrange(4) + 4 * (drawn.random() >= lower)} for _ in range(8 * _BATCH)]


@dataclass(frozen=True, slots=True)
class Alarmed:
    """`traffic`: real flights; `dice`: a pipeline whose rows are as its model's baseline says. `real`: in real time; `fast`: at a
    sixtieth of all times. `stores`: the Redis of features and of answers; `folder`: of this run."""

    system: System
    traffic: Traffic
    dice: Traffic
    real: Watch
    fast: Watch
    stores: RedisServer
    folder: Path

    @classmethod
    @contextmanager
    def running(
        cls, folder: Path, environment: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[Alarmed]:
        """In HOME, which is left as it was found but for what was recorded. `environment`: more of the processes'."""
        prepared()
        # What earlier runs lost is no news.
        shutil.rmtree(PLACE.events, ignore_errors=True)
        with ExitStack() as stack:
            stores = RedisServer(folder)
            stores.start()
            stack.callback(stores.kill)
            features = _settings(folder, stores)
            stack.callback(_unset)
            # A blocked loop has to stay for as long as Prometheus needs to see it.
            override("supervisor", {"probes_silent": 6})
            with mock.patch.dict(os.environ, environment):
                system = System.up("apart", features=features, patient=False)
            stack.callback(system.down)
            override("router", router_settings(stores))
            override("ingress", ingress_settings(stores))
            headrace("restart", "router")
            headrace("restart", "ingress")
            _serve_dice(folder)
            traffic = stack.enter_context(Traffic(system, "flights", in_turn(system.rows)).sent())
            throws = stack.enter_context(Traffic(system, "dice", dice()).sent())
            watches = []
            for pace in (1.0, PACE):
                own = folder / f"pace-{pace:g}"
                own.mkdir()
                watches.append(Watch(*stack.enter_context(watched(own, PLACE.targets, pace))))
            real, fast = watches
            # For `headrace slo status` and `silence`, as an operator has it.
            told = {"prometheus": fast.settings.prometheus, "alertmanager": fast.settings.alertmanager}
            override("slo", told)
            yield cls(system, traffic, throws, real, fast, stores, folder)

    def pid(self, service: str) -> int:
        """Of a service's process; waits until there is one."""
        found: list[int] = []

        def there() -> bool:
            pid = self.system.pid(service)
            if pid is not None:
                found.append(pid)
            return pid is not None

        until(f"{service} has a process", there)
        return found[-1]

    def kill(self, service: str) -> None:
        """SIGKILL; the supervisor starts it again."""
        os.kill(self.pid(service), signal.SIGKILL)

    def ready(self, service: str) -> None:
        """Waits until it is ready."""
        until(f"{service} is ready", lambda: self.system.services()[service]["state"] == "ready")

    def asks(self, pipeline: str, row: dict[str, Any], count: int = 1, **more: Any) -> int:
        """Asks for a row so often; returns how often it failed."""
        failed = 0
        for _ in range(count):
            try:
                answer = self.system.predict(row_request(row, pipeline=pipeline), **more)
                failed += answer.predictions[0].HasField("error")
            except grpc.RpcError:
                failed += 1
        return failed


def router_settings(stores: RedisServer) -> dict[str, Any]:
    """The router's settings without a fault: kept answers in Redis."""
    return {"cache": {"redis": f"redis://127.0.0.1:{stores.port}/1"}}


def ingress_settings(stores: RedisServer) -> dict[str, Any]:
    """The door's settings without a fault: limits shared by Redis."""
    return {"sharing": {"redis": f"redis://127.0.0.1:{stores.port}/2"}}


def monitoring_settings() -> dict[str, Any]:
    """Monitoring's settings without a fault: retrainings at once, by a command that fails; files of events within seconds."""
    return {
        "drift": {"retrain": {"after_s": 0, "command": ["/bin/false"]}},
        "events": {"file_s": 5},
    }


def facts_in(folder: Path) -> dict[str, Any]:
    """Monitoring's settings with its database elsewhere."""
    return {**monitoring_settings(), "database": str(folder / "facts.sqlite")}


def fill(folder: Path, stores: RedisServer) -> None:
    """Writes all features into the Redis."""
    at = f"127.0.0.1:{stores.port}"
    folders = str(folder / "repo"), str(HOME / "data")
    command = [sys.executable, "-m", "tests.faults.redis_repo", *folders, at, at]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)


def _serve_dice(folder: Path) -> None:
    """A pipeline whose model has a baseline of throws of a die with eight sides."""
    (folder / "dice.csv").write_text("x\n" + "".join(f"{i % 8}\n" for i in range(8000)))
    (folder / "dice.onnx").write_bytes(lookup(8))
    if not (PLACE.models / "dice" / "1").exists():
        files = [str(folder / "dice.onnx"), "--version", "1", "--baseline", str(folder / "dice.csv")]
        headrace("models", "add", "dice", *files)
    add_document("dice", DOCUMENT.replace("table", "dice"))


def _settings(folder: Path, stores: RedisServer) -> dict[str, Any]:
    """Writes the others' settings; returns those of the features service."""
    repo = folder / "repo"
    at = f"127.0.0.1:{stores.port}"
    fill(folder, stores)
    stream = {"url": f"redis://{at}/0"}
    override("monitoring", monitoring_settings())
    override("control", {"audit": {"exported": str(folder / "heads")}})
    return {"repo": str(repo), "stream": stream}


def _unset() -> None:
    for name in ("features", "monitoring", "executor", "ingress", "control"):
        override(name, {})
    for name in ("slo", "supervisor"):
        with suppress(FileNotFoundError):
            PLACE.override(name).unlink()

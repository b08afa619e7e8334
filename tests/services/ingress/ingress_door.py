"""A real Envoy with the ingress in it, in front of a router that answers from the request alone."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import yaml

from headrace.api.executor.v1 import executor_pb2
from headrace.api.router.v1 import explain_pb2, shadow_pb2
from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import Batch, Column, RowError, Timing, decode, encode
from headrace.hop import testing
from headrace.hop.call import Call
from headrace.hop.config import ServiceSettings
from headrace.hop.definition import Definition, Service
from headrace.hop.errors import Code, Fault, Reason
from headrace.oip import open_inference_pb2 as oip
from tests.children import ends_with_tests
from tests.definitions import definition_of
from tests.live_access import signed_folder
from tests.ports import free_ports
from tests.services.ingress.ingress_keys import Keys, specs
from tests.services.waiting import until

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
# The file of the monitoring service, in the door's folder.
FACTS = "facts.sqlite"
PIPELINE = """
pipeline: double
version: 3
description: Twice the numbers, for tests
deadline_ms: 2000
inputs:
  x: {type: float32, shape: [2], range: [-1000, 1000]}
  n: {type: int32, range: [0, 9]}
  word: {type: string, required: false, max_bytes: 16}
stages:
  - model: m
    name: doubler
    inputs: {x: x, n: n, word: word}
    outputs:
      y: {column: y, type: float32, shape: [2]}
      big: {column: big, type: bool}
      said: {column: said, type: string}
outputs: [y, big, said]
"""
# Its numbers leave with one digit.
COARSE = PIPELINE.replace("pipeline: double", "pipeline: coarse").replace(
    "outputs: [y,", "outputs: [{column: y, round: 1},"
)


@dataclass
class FakeRouter:
    """Answers `double`: y = 2x, big = n > 4, said = word. n = 7 fails the row; n = 8 takes 0.3 s.

    While it is `held` it answers nobody until `release`; `cancelled` counts the calls that were given up meanwhile.
    """

    calls: list[pb.InferRequest] = field(default_factory=list)
    # What operators asked.
    asked: list[str] = field(default_factory=list)
    # Seconds that each row to explain had.
    explain_s: list[float] = field(default_factory=list)
    held: bool = False
    # There is no executor that it could ask.
    alone: bool = False
    cancelled: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Holds no longer, and answers those that were held."""
        self.held = False
        self._released.set()
        self._released = asyncio.Event()

    @asynccontextmanager
    async def holding(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> AsyncIterator[asyncio.Task[T]]:
        """A call that `begin` makes and that has come here; nobody answers it in the block, others are answered."""
        before, self.held = len(self.calls), True
        task = asyncio.create_task(begin())
        try:
            await until(lambda: len(self.calls) > before or task.done())
            assert len(self.calls) > before, "it did not come"
            self.held = False
            yield task
        finally:
            self.release()

    async def Infer(self, request: pb.InferRequest, call: Call) -> pb.InferResponse:
        self.calls.append(request)
        if self.held:
            try:
                async with asyncio.timeout(60):
                    await self._released.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        batch = decode(request.batch)
        x, n = batch.columns["x"].array, batch.columns["n"].array
        if (n == 8).any():
            await asyncio.sleep(0.3)
        failed = RowError(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, "no weather", "store")
        reply = Batch(
            batch.rows,
            {
                c.name: c
                for c in (
                    Column.of("y", x * np.float32(2)),
                    Column.of("big", n > 4),
                    batch.columns["word"].renamed("said"),
                    Column.of("@source/weather", np.full(len(batch), 1, np.uint8)),
                    Column.of("@age_us/weather", np.full(len(batch), 5000, np.int64)),
                    Column.of("@fallbacks", np.full(len(batch), 1, np.uint64)),
                )
            },
            dict.fromkeys(np.flatnonzero(n == 7).tolist(), failed),
            [
                Timing("m", "router", 10, 100, len(batch)),
                Timing("m/execute", "executor", 20, 80, len(batch), {"model.version": "1"}),
            ],
        )
        decision = pb.Decision(
            version=3,
            revision="abc",
            route="default",
            models=[pb.ModelUse(stage="m", model="doubler", version="1", sha256="ff")],
        )
        return pb.InferResponse(batch=encode(reply), fallbacks=["store_down"], decisions=[decision])

    async def Explain(self, request: explain_pb2.ExplainRequest, call: Call) -> explain_pb2.ExplainResponse:
        batch = decode(request.batch)
        self.asked.append(f"explain {request.pipeline} {request.output} for {batch.rows.tenants[0]}")
        self.explain_s += [budget / 1e6 for budget in request.batch.rows.budgets_us]
        reply = explain_pb2.ExplainResponse()
        for x in batch.columns["x"].array.sum(axis=1).tolist():
            row = reply.rows.add(output="y", base=2.0, value=2 * x, exact=True, revision="abc")
            row.contributions.add(column="x", contribution=2 * x - 2, value_json=str(x), base_json="1.0")
        return reply

    async def ListPipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:
        return pb.ListPipelinesResponse()

    async def IndexModels(self, request: pb.IndexModelsRequest, call: Call) -> pb.IndexModelsResponse:
        if self.alone:
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "no executor")
        states = {
            "1": executor_pb2.MODEL_STATE_ACTIVE,
            "2": executor_pb2.MODEL_STATE_ASLEEP,
            "3": executor_pb2.MODEL_STATE_LOADING,
            "4": executor_pb2.MODEL_STATE_UNLOADED,
        }
        reply = pb.IndexModelsResponse()
        for version, state in states.items():
            progress = "warming up onnxruntime" if version == "3" else ""
            reply.models.add(name="doubler", version=version, state=state, progress=progress)
        return reply

    async def GetShadowReport(
        self, request: shadow_pb2.GetShadowReportRequest, call: Call
    ) -> shadow_pb2.GetShadowReportResponse:
        reply = shadow_pb2.GetShadowReportResponse()
        reply.reports.add(pipeline=request.pipeline, release=4, arm="next", both_answered_count=7)
        return reply

    async def LoadModel(self, request: pb.LoadModelRequest, call: Call) -> pb.LoadModelResponse:
        self._asked("load", request, call)
        return pb.LoadModelResponse(model=request.model, version=request.version or "4")

    async def UnloadModel(self, request: pb.UnloadModelRequest, call: Call) -> pb.UnloadModelResponse:
        self._asked("unload", request, call)
        return pb.UnloadModelResponse(versions=["1"])

    def _asked(self, verb: str, request: Any, call: Call) -> None:
        minutes = round((call.deadline - time.monotonic()) / 60)
        tenant, _, key = request.operator.partition("/")
        assert key
        self.asked.append(f"{verb} {request.model}:{request.version} for {tenant} within {minutes} min")
        if request.version == "altered":
            said = {"model": request.model, "version": request.version}
            raise Fault(
                Code.FAILED_PRECONDITION, Reason.REASON_MODEL_UNTRUSTED, "it was altered", metadata=said
            )


def definition(router: FakeRouter) -> Definition[ServiceSettings]:
    return definition_of("router", Service(pb.DESCRIPTOR.services_by_name["RouterService"], router))


@dataclass
class Folder:
    """Everything on disk that an ingress needs."""

    path: Path
    settings: dict[str, Any]
    keys: Keys

    @property
    def grpc(self) -> str:
        return str(self.settings["http"]["plaintext"])

    @property
    def tls(self) -> str:
        return str(self.settings["http"]["tls"])

    @property
    def admin(self) -> str:
        return str(self.settings["admin"])

    def metrics(self) -> str:
        """What the door shows Prometheus."""
        address = self.settings["telemetry"]["metrics"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as page:
            return str(page.read().decode())

    def sample(self, series: str) -> float | None:
        """The value of a series, written as on that page; None: it has none."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else None


@asynccontextmanager
async def running(
    path: Path, router: FakeRouter | None = None, client: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[DoorProcess]:
    """A ready door in the folder `path`, before `router`. `client`: settings of its client; `options`: as of `prepare`."""
    async with (
        testing.served(definition(router or FakeRouter())) as harness,
        started(prepare(path, {"target": harness.target, **(client or {})}, **options)) as process,
    ):
        yield process


@asynccontextmanager
async def started(folder: Folder) -> AsyncIterator[DoorProcess]:
    """The door of this folder, ready; killed at the end."""
    process = DoorProcess(folder)
    try:
        await process.ready(folder.grpc)
        yield process
    finally:
        process.kill()


def prepare(
    path: Path,
    router: str | Mapping[str, Any],
    *,
    deadline_ms: int = 2000,
    changed: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    further: Sequence[str] = (),
    **overrides: Any,
) -> Folder:
    """Writes settings, what is live and certificate under `path`. `router`: its target, or its client's settings.
    `changed`: other values of tenants, by name. `further`: documents beside `double`."""
    path.mkdir(exist_ok=True)
    path.chmod(0o700)
    keys, resources = signed_folder(path, specs(changed), double(deadline_ms), *further)
    certificate(path)
    plaintext, tls, admin, metrics = free_ports(4)
    settings: dict[str, Any] = {
        "server": {"listen": f"unix:{path / 'ingress.sock'}"},
        "http": {
            "plaintext": f"127.0.0.1:{plaintext}",
            "tls": f"127.0.0.1:{tls}",
            "certificate": str(path / "cert.pem"),
            "key": str(path / "key.pem"),
        },
        "admin": f"127.0.0.1:{admin}",
        "run_dir": str(path / "run"),
        "access_log": str(path / "access.log"),
        "resources": resources,
        "router": {"target": router} if isinstance(router, str) else dict(router),
        "traces": {"folder": str(path / "traces")},
        "queries": str(path / "queries"),
        "security": {"file": str(path / "audit" / "security.jsonl")},
        "telemetry": {"metrics": f"127.0.0.1:{metrics}"},
        "limits": {"max_request_bytes": 65536, "max_rows": 100},
        "reload_s": 0.1,
        **overrides,
    }
    (path / "ingress.yaml").write_text(yaml.safe_dump(settings))
    return Folder(path, settings, Keys(**keys))


def second(folder: Folder, path: Path, **overrides: Any) -> Folder:
    """Another door of the same installation: its own ports, the same files. `overrides`: settings of its own."""
    plaintext, tls, admin, metrics = free_ports(4)
    path.mkdir()
    settings = {
        **folder.settings,
        "http": {**folder.settings["http"], "plaintext": f"127.0.0.1:{plaintext}", "tls": f"127.0.0.1:{tls}"},
        "admin": f"127.0.0.1:{admin}",
        "run_dir": str(path / "run"),
        "telemetry": {"metrics": f"127.0.0.1:{metrics}"},
        **overrides,
    }
    (path / "ingress.yaml").write_text(yaml.safe_dump(settings))
    return Folder(path, settings, folder.keys)


def double(deadline_ms: int) -> str:
    """The document of `double` with this time for a request."""
    return PIPELINE.replace("deadline_ms: 2000", f"deadline_ms: {deadline_ms}")


def certificate(path: Path) -> None:
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {path}/key.pem -out {path}/cert.pem".split(),
        check=True,
        capture_output=True,
    )


def infer_request(
    x: Sequence[Sequence[float]], n: Sequence[int], word: Sequence[bytes] | None = None, **fields: Any
) -> oip.ModelInferRequest:
    """ModelInfer of `double` with raw contents."""
    request = oip.ModelInferRequest(model_name="double", **fields)
    request.inputs.add(name="x", datatype="FP32", shape=[len(x), 2])
    request.inputs.add(name="n", datatype="INT32", shape=[len(n), 1])
    request.raw_input_contents.extend([np.array(x, "<f4").tobytes(), np.array(n, "<i4").tobytes()])
    if word is not None:
        request.inputs.add(name="word", datatype="BYTES", shape=[len(word)])
        request.raw_input_contents.append(b"".join(len(w).to_bytes(4, "little") + w for w in word))
    return request


class DoorProcess:
    """`python -m services.ingress`, waited for until it answers."""

    def __init__(
        self,
        folder: Folder,
        path: str = f"{ROOT}:{ROOT / 'libs'}",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`path`: where Python finds the packages, as in PYTHONPATH. `variables`: the settings, instead of a file."""
        self.folder = folder
        settings = ["--config", str(folder.path / "ingress.yaml")] if variables is None else []
        self._log = folder.path / "ingress.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ends_with_tests(sys.executable, "-m", "services.ingress", *settings),
                stdout=log,
                stderr=log,
                cwd=folder.path,
                env={**os.environ, "PYTHONPATH": path, **(variables or {})},
            )

    async def ready(self, address: str, within_s: float = 90.0) -> None:
        """Waits until the door, or Envoy's admin port, says 200 at `address`."""
        path = b"/ready" if address != self.folder.grpc else b"/v2/health/ready"
        host, port = address.split(":")

        async def says_200() -> bool:
            assert self.process.poll() is None, self.log()
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                answer = await reader.read(64)
                writer.close()
                return b" 200 " in answer
            return False

        try:
            await until(says_200, within_s)
        except AssertionError as late:
            raise AssertionError(self.log()) from late

    def log(self) -> str:
        return self._log.read_text()[-6000:]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

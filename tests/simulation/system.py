"""The door, the router and their leaves as processes of a simulation, each with the parts that its own wiring makes.

The leaves are those of the router's tests: they answer at once what follows from their inputs, or after a while.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from headrace.access.records import KEY, TENANT, key_content, tenant_content
from headrace.access.specs import QuotaSpec, TenantSpec, new_key
from headrace.api.executor.v1 import executor_pb2
from headrace.api.features.v1 import features_pb2
from headrace.api.postprocessing.v1 import postprocessing_pb2
from headrace.api.preprocessing.v1 import preprocessing_pb2
from headrace.catalog.access import Position
from headrace.hop import Service, config
from headrace.hop.client import dial
from headrace.hop.definition import Definition, Runtime
from headrace.hop.process import grpc_core
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.hosting import hosted
from headrace.hop.transport import stream_client
from headrace.hop.transport.in_process import LocalServers
from headrace.pipeline.document.parse import parse
from headrace.releases import catalog
from headrace.resources import ResourceSettings
from headrace.resources.apply import Unit, View
from headrace.resources.releases import release_compiler
from headrace.resources.snapshot import Resource, Snapshot
from services.ingress import wiring as ingress
from services.ingress.config import IngressSettings
from services.ingress.protocols.asgi import Application
from services.ingress.protocols.registry import routes
from services.router import wiring as router
from tests.definitions import definition_of
from tests.first_release import resources_of
from tests.services.router.router_leaves import SCORED, Executor, Features, Steps
from tests.simulation.network import Network, Server, context_of
from tests.simulation.virtual_time import PROCESS, Blocking, VirtualLoop

_DRAIN_S = 20.0
# What is followed instead, `_live` says.
_RESOURCES = ResourceSettings(keys=())
_QUIET = config.Telemetry(log_level="error", trace_ratio=0)
_FILES = {
    "features": (features_pb2.DESCRIPTOR, "FeaturesService"),
    "preprocessing": (preprocessing_pb2.DESCRIPTOR, "PreprocessingService"),
    "executor": (executor_pb2.DESCRIPTOR, "ExecutorService"),
    "postprocessing": (postprocessing_pb2.DESCRIPTOR, "PostprocessingService"),
}
# The pipeline that all tenants share, and that of the hostile one, whose model is slow.
PIPELINES = (
    SCORED,
    SCORED.replace("pipeline: scored", "pipeline: theirs").replace("name: adder", "name: slow"),
)
LIMITED = QuotaSpec(rows_per_s=200.0, rows_burst=50, concurrency=4)
TENANTS = ("good", "hostile", "limited")


class _Silent:
    """In place of a log."""

    def bind(self, **_: Any) -> "_Silent":
        return self

    def debug(self, *_: Any, **__: Any) -> None: ...

    info = warning = error = critical = is_enabled_for = debug


# Documents do not change.
_parse = cache(parse)


class _AdminPort:
    def __init__(self, *_: Any) -> None: ...

    async def ask(self, *_: str) -> bytes:
        """As Envoy answers, as long as it stops nothing."""
        return b"HTTP/1.1 200 OK\r\n\r\n"


@cache
def _folder() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Removed when the tests end."""
    folder = tempfile.TemporaryDirectory(prefix="simulation-")
    path = Path(folder.name)
    path.chmod(0o700)
    return folder, path


@cache
def _live() -> tuple[dict[str, str], View]:
    """The key of each tenant, and what door and routers follow."""
    texts, found = {}, [resource for text in PIPELINES for resource in resources_of(text)]
    for name in TENANTS:
        texts[name], key = new_key(created=datetime(2023, 1, 1, tzinfo=UTC))
        limits = LIMITED if name == "limited" else QuotaSpec()
        found += [
            Resource.of(TENANT, name, tenant_content(TenantSpec(pipelines=("*",), limits=limits))),
            Resource.of(KEY, f"{name}/{key.id}", key_content(key)),
        ]
    compiling, units = release_compiler(), [Unit.of(*resources_of(text)) for text in PIPELINES]
    compiled = {unit.key: compiling(unit) for unit in units}
    return texts, View(Position(1, 1, bytes(32)), Snapshot.of(found), compiled=compiled, state="simulated")


class _Follower:
    """In place of a thread that follows control."""

    def __init__(self) -> None:
        self.view = _live()[1]

    def on_change(self, heard: object) -> None:
        """Nothing changes."""

    def wait(self, seen: str, timeout_s: float) -> View:
        if timeout_s and seen == self.view.state:
            raise Blocking(timeout_s, seen)
        return self.view


@asynccontextmanager
async def _followed(*_: Any, **__: Any) -> AsyncIterator[_Follower]:
    yield _Follower()


def key_of(tenant: str) -> str:
    return _live()[0][tenant]


class Leaves:
    """The leaves, and for how long the hostile tenant's model works on a call."""

    def __init__(self, slow_s: float) -> None:
        async def work(_: Any) -> None:
            await asyncio.sleep(slow_s)

        self.servicers = {
            "features": Features(),
            "preprocessing": Steps(),
            "executor": Executor(models={"slow": work}),
            "postprocessing": Steps(),
        }

    def definition(self, name: str) -> Definition[Any]:
        file, service = _FILES[name]
        return definition_of(name, Service(file.services_by_name[service], self.servicers[name]))


class Host:
    """A process of the system. It can stand still, die, and come back as another."""

    def __init__(self, system: "System", name: str) -> None:
        self.name = name
        self._system, self._lives = system, 0
        self.up = False

    async def start(self) -> None:
        self._lives += 1
        self.process = f"{self.name} {self._lives}"
        self.clients: list[dial.Client] = []
        ready = asyncio.get_running_loop().create_future()
        life = asyncio.get_running_loop().create_task(
            self._live(self.process, ready), context=context_of(self.process)
        )
        await asyncio.wait({ready, life}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()

    def stand_still(self, seconds: float) -> None:
        self._system.loop.stop_process(self.process, seconds)

    async def replace(self) -> None:
        """As a start with `--replace`: a successor takes over, and the process before it answers what it has and ends."""
        before, server = self.process, self._system.servers[self.name]
        await self.start()
        await server.demultiplexer.drain(_DRAIN_S)
        while server.stack.shed.in_flight:  # calls on their own
            await asyncio.sleep(0.01)
        self._system.network.cut(before, dead=True)
        self._system.loop.end_process(before)

    def kill(self) -> None:
        self.up = False
        self._system.network.cut(self.process, dead=True)
        self._system.loop.end_process(self.process)

    async def _live(self, process: str, ready: asyncio.Future[None]) -> None:
        async with self._system.serving(self):
            self.up = True
            if not ready.done():
                ready.set_result(None)
            await asyncio.get_running_loop().create_future()  # until it is killed


class System:
    """All processes of one case. `together`: one process has all services."""

    def __init__(
        self, loop: VirtualLoop, leaves: Leaves, *, together: bool, routers: int, executors: int
    ) -> None:
        self.loop, self.network, self.leaves, self.together = loop, Network(), leaves, together
        self._replicas = {"router": routers, "executor": executors}
        names = [] if together else [*_FILES, "router"]
        self.hosts = {
            f"{name}.{i}": Host(self, f"{name}.{i}") for name in names for i in range(self._count(name))
        }
        self.door = self.hosts["door"] = Host(self, "door")
        self.application: Application | None = None
        self.ingress: ingress.Ingress | None = None
        self.telemetry: Telemetry | None = None
        self.servers: dict[str, Server] = {}

    async def start(self) -> None:
        for host in self.hosts.values():
            await host.start()

    def serving(self, host: Host) -> AbstractAsyncContextManager[None]:
        return self._door(host) if host is self.door else self._service(host)

    @asynccontextmanager
    async def _service(self, host: Host) -> AsyncIterator[None]:
        name = host.name.partition(".")[0]
        telemetry = _telemetry(name)
        runtime = _Runtime(name, telemetry, LocalServers(telemetry), host)
        definition, settings = self._part(name)
        async with definition.build(settings, runtime) as services:
            server = Server(host.name, services, telemetry)
            self.network.servers[f"unix:/{host.name}"] = self.servers[host.name] = server
            yield

    @asynccontextmanager
    async def _door(self, host: Host) -> AsyncIterator[None]:
        telemetry = _telemetry("ingress")
        local = LocalServers(telemetry)
        runtime = _Runtime("ingress", telemetry, local, host)
        parts = [self._part(name) for name in [*_FILES, "router"]] if self.together else []
        settings = _ingress_settings(self._target("router"))
        async with hosted(parts, telemetry, local), ingress.assembled(settings, runtime) as assembled:
            self.ingress, self.telemetry = assembled, telemetry
            self.local = local
            self.application = routes(assembled, settings.limits)
            yield
        self.application = None

    def _part(self, name: str) -> tuple[Definition[Any], Any]:
        if name != "router":
            return self.leaves.definition(name), config.ServiceSettings(server=_server(name))
        values = {callee: {"target": self._target(callee)} for callee in _FILES}
        return router.SERVICE, router.SERVICE.config(server=_server("router"), resources=_RESOURCES, **values)

    def _target(self, callee: str) -> str:
        if self.together:
            return "local"
        return ",".join(f"unix:/{callee}.{i}" for i in range(self._count(callee)))

    def _count(self, name: str) -> int:
        return self._replicas.get(name, 1)


class _Runtime(Runtime):
    """Remembers the clients that are made."""

    def __init__(self, name: str, telemetry: Telemetry, local: LocalServers, host: Host) -> None:
        super().__init__(name, telemetry, local)
        object.__setattr__(self, "_host", host)

    def dial(self, callee: str, settings: config.ClientSettings | config.CalleeSettings) -> dial.Client:
        client = super().dial(callee, settings)
        self._host.clients.append(client)  # type: ignore[attr-defined] # set above
        return client


def _telemetry(service: str) -> Telemetry:
    telemetry = Telemetry(service, _QUIET)
    telemetry.log = _Silent()
    return telemetry


def _server(name: str) -> config.Server:
    return config.Server(listen=f"unix:/{name}")


def _ingress_settings(router_target: str) -> IngressSettings:
    path = _folder()[1]
    return IngressSettings(
        run_dir=path,
        resources=_RESOURCES,
        router=config.ClientSettings(target=router_target),
        telemetry=_QUIET,
        access_log="",
        reload_s=3600.0,
        log_ratio=0.0,
    )


@contextmanager
def simulated(network: Network) -> Iterator[None]:
    """What the machine does is done by the simulation."""

    async def collect(_: object) -> None: ...

    with ExitStack() as stack:
        for target, name, instead in (
            (dial, "Channels", network.channels),
            (VirtualLoop, "create_unix_connection", network.connect),
            (stream_client, "Context", lambda: context_of(PROCESS.get())),
            (ingress, "AdminPort", _AdminPort),
            (ingress, "followed", _followed),
            (router, "followed", _followed),
            (grpc_core, "collect", collect),
            (catalog, "parse", _parse),
        ):
            stack.enter_context(patch.object(target, name, instead))
        yield

"""How a service follows what is live: its settings, its way to control, what its metrics say of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.api.control.v1 import resources_pb2 as pb
from headrace.hop import config
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.definition import Runtime
from headrace.hop.errors import Fault
from headrace.repository.storage.store import open_store
from headrace.resources import ResourceSettings
from headrace.resources.apply import Compile
from headrace.resources.bootstrap import follow
from headrace.resources.follower import Follower

_WATCH = unary(pb.WatchRequest, pb.WatchResponse, idempotent=True, lengthy=True)


class HopControl:
    """Control as a follower asks it, by hop's client on the event loop `loop`."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._call = client.unary(_WATCH)
        self._loop = loop
        self._asked: concurrent.futures.Future[pb.WatchResponse] | None = None
        self._closed = False

    def watch(self, request: pb.WatchRequest, timeout_s: float) -> pb.WatchResponse:
        """Blocks; not on the loop's thread. Raises OSError."""
        if self._closed:
            raise OSError("it is closed")
        call = self._call(request, deadline=time.monotonic() + timeout_s)
        self._asked = asyncio.run_coroutine_threadsafe(call, self._loop)
        if self._closed:  # since it was looked at first
            self._asked.cancel()
        try:
            return self._asked.result()
        except Fault as fault:
            raise OSError(f"{fault.code.name}: {fault.message}") from None
        except concurrent.futures.CancelledError:
            raise OSError("it is closed") from None

    def turn(self) -> None:
        """hop's client chooses among the processes of control, by their health."""

    def close(self) -> None:
        """Ends a question in progress; there will be no other one."""
        self._closed = True
        if self._asked is not None:
            self._asked.cancel()


class ResourceMetrics(Collector):
    """What the followers of this process say, one for each service that it hosts."""

    def __init__(self, registry: Any) -> None:
        self._followers: dict[str, Follower] = {}
        registry.register(self)

    def tell(self, service: str, follower: Follower | None) -> None:
        """From now on, or (None) no more."""
        if follower is None:
            self._followers.pop(service, None)
        else:
            self._followers[service] = follower

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        number = _gauge("headrace_resources_number", "Number of the last change that this process has.")
        age = _gauge("headrace_resources_age_seconds", "Since control said that there is nothing newer.")
        refused = _gauge("headrace_resources_rejected", "Resources that could not be taken over.")
        for service, follower in list(self._followers.items()):
            status, view = follower.status(), follower.view
            number.add_metric([service], status.position.number if status.position else 0)
            age.add_metric([service], status.age_s)
            refused.add_metric([service], len(view.rejected) if view else 0)
        yield from (number, age, refused)


@asynccontextmanager
async def control_client(
    settings: config.CalleeSettings | None, runtime: Runtime
) -> AsyncIterator[Client | None]:
    """The process's client of control; None: the settings name none. Raises ConfigError."""
    if settings is None:
        yield None
        return
    # Nothing is spared by not asking a control that is away, and one that is back is found at once.
    never = config.BreakerSettings(min_calls=1 << 30)
    client = runtime.dial("control", settings.client(breaker=never))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def followed(
    service: str,
    settings: ResourceSettings | None,
    control: Client | None,
    runtime: Runtime,
    compilers: Mapping[str, Compile] | None = None,
    data: Collection[str] = (),
) -> AsyncIterator[Follower | None]:
    """Follows the part of `service` meanwhile; None: the settings say that nothing is followed. `compilers`, `data`: see
    `Applier`. Raises ConfigError."""
    if settings is None:
        yield None
        return
    try:
        keys = [key.read_bytes() for key in settings.keys]
        store = open_store(settings.artifacts) if settings.artifacts else None
    except OSError as error:
        raise config.ConfigError(f"resources: {error}") from None
    asked = HopControl(control, asyncio.get_running_loop()) if control else None
    watcher = f"{service}/{socket.gethostname()}"
    try:
        follower = await asyncio.to_thread(
            follow, service, watcher, keys, asked, settings.folder, store, compilers, data=data
        )
    except ValueError as error:
        raise config.ConfigError(f"resources.keys: {error}") from None
    metrics = runtime.telemetry.once(ResourceMetrics)
    metrics.tell(service, follower)
    try:
        yield follower
    finally:
        metrics.tell(service, None)
        await asyncio.to_thread(follower.close)


def has_view(follower: Follower) -> Callable[[], Any]:
    """What health waits for: a process that has nothing to serve by is not ready."""

    async def wait() -> None:
        loop, there = asyncio.get_running_loop(), asyncio.Event()
        follower.on_change(lambda: loop.call_soon_threadsafe(there.set))
        if follower.view is None:
            await there.wait()

    return wait


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["service"])

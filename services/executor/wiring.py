"""The executor, assembled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from headrace.api.executor.v1 import executor_pb2
from headrace.hop.config import ConfigError
from headrace.hop.definition import Definition, Runtime, Service
from headrace.repository import AccessLog, Artifact, Repository, RepositoryError, Trust
from headrace.repository.records import Records
from services.executor.backends.backend import Backend, BackendError
from services.executor.backends.onnxruntime import OnnxRuntime
from services.executor.backends.remote import Remote
from services.executor.backends.servers import Servers
from services.executor.backends.tensorrt.backend import TensorRt
from services.executor.config import ExecutorConfig, ModelSettings
from services.executor.loading import BackendFactory, Loader, Progress
from services.executor.metrics import Metrics
from services.executor.models import Models
from services.executor.preparing import Preparing
from services.executor.running import Surroundings
from services.executor.servicer import ExecutorServicer
from services.executor.warming import pass_through
from services.executor.watching import Watchdog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# A run that was expected to be short holds up the whole process; after this long it is taken off the event loop.
_HANGS_S = 0.5
# A run that ends on a thread waits this long for a busy event loop to let go of the interpreter. With Python's 5 ms the
# p99 at three quarters of the capacity was 29 ms, with this it is 5 (flights_heavy, 16 rows a call).
_SWITCH_S = 0.0002


@asynccontextmanager
async def build(config: ExecutorConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """Loads and warms the models, then serves them. One that can't be used is in quarantine; ConfigError: none can be read."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, _SWITCH_S))
    telemetry = runtime.telemetry
    metrics = telemetry.once(Metrics)
    watchdog = Watchdog(min(config.run_timeout_s, _HANGS_S))
    servers = Servers(config.servers, runtime, asyncio.get_running_loop())
    around = Surroundings(
        metrics, telemetry.log, watchdog, config.inline_us / 1e6, config.run_timeout_s, config.patience_s
    )
    records = Records(config.state, telemetry.log.error)
    preparing = Preparing(loader(config, servers, metrics, telemetry.log), records, config, telemetry.log)
    budget = config.memory_budget_mib
    models = Models(preparing, records, around, None if budget is None else budget << 20, config.start_s)
    try:
        try:
            await models.open()
        except RepositoryError as error:
            raise ConfigError(f"models: {error}") from error
        descriptor = executor_pb2.DESCRIPTOR.services_by_name["ExecutorService"]
        servicer = ExecutorServicer(models)
        warm = partial(pass_through, servicer.rehearse, models, metrics.tallies)
        yield [Service(descriptor, servicer, takes_payload=True, warm_up=warm)]
    finally:
        await models.close()
        await servers.close()
        await asyncio.to_thread(watchdog.close)
        sys.setswitchinterval(interval)


def loader(
    config: ExecutorConfig, servers: Servers | None, metrics: Metrics, log: FilteringBoundLogger
) -> Loader:
    """Makes models ready; without `servers`, those that run in this process."""
    return Loader(_repository(config), _backends(config, servers), config, metrics, log)


def _repository(config: ExecutorConfig) -> Repository:
    log = None if config.access_log is None else AccessLog(config.access_log, "executor")
    if config.trust is None:
        return Repository(config.models, log=log)
    trust = Trust(config.trust.keys, config.trust.accept_unsigned, config.trust.memory)
    return Repository(config.models, trust=trust, log=log)


def _backends(config: ExecutorConfig, servers: Servers | None) -> Mapping[str, BackendFactory]:
    # Threads of a model's first version that was measured: the next ones come while others serve, a bad time to measure.
    measured: dict[str, int] = {}

    def onnxruntime(artifact: Artifact, settings: ModelSettings, argument: str, _tell: Progress) -> Backend:
        device = settings.device if not argument else OnnxRuntime.device(argument)
        name = artifact.metadata.name
        threads = settings.threads or measured.get(name, 0)
        chosen = partial(measured.__setitem__, name)
        return OnnxRuntime(artifact.content, threads, device, settings.max_rows, chosen)

    def remote(artifact: Artifact, settings: ModelSettings, argument: str, _tell: Progress) -> Backend:
        if servers is None:
            raise BackendError("no server is asked here")
        return Remote.of(artifact, settings, argument, servers)

    def tensorrt(artifact: Artifact, settings: ModelSettings, _argument: str, tell: Progress) -> Backend:
        return TensorRt(artifact, settings.gpu_rows, settings.instances, config.tensorrt, tell)

    return {"onnxruntime": onnxruntime, "remote": remote, "tensorrt": tensorrt}


SERVICE = Definition("executor", ExecutorConfig, build)

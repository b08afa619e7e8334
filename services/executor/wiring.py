"""The executor, assembled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from headrace.api.executor.v1 import executor_pb2
from headrace.hop.config import ConfigError
from headrace.hop.definition import Definition, Runtime, Service
from headrace.repository import Repository, RepositoryError
from services.executor.backends.onnxruntime import OnnxRuntime
from services.executor.config import ExecutorConfig
from services.executor.executing import Models
from services.executor.loading import BackendFactory, Loader
from services.executor.metrics import Metrics
from services.executor.running import Runner, Surroundings
from services.executor.servicer import ExecutorServicer

BACKENDS: Mapping[str, BackendFactory] = {
    OnnxRuntime.name: lambda artifact, settings: OnnxRuntime(artifact.content, settings.threads),
}


@asynccontextmanager
async def build(config: ExecutorConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """Loads and warms the models, then serves them. Raises ConfigError if one can't be used."""
    telemetry = runtime.telemetry
    metrics = telemetry.once(Metrics)
    loader = Loader(Repository(config.models), BACKENDS, metrics, telemetry.log)
    try:
        # Off the loop: health and the other services hosted here go on while models load.
        models = await asyncio.to_thread(loader.load_all, config)
    except RepositoryError as error:
        raise ConfigError(f"models: {error}") from error
    pool = ThreadPoolExecutor(sum(m.instances for m in models) or 1, thread_name_prefix="executor-run")
    around = Surroundings(pool, metrics, telemetry.log, config.inline_us / 1e6, config.run_timeout_s)
    runners = [Runner(model, around) for model in models]
    try:
        descriptor = executor_pb2.DESCRIPTOR.services_by_name["ExecutorService"]
        yield [Service(descriptor, ExecutorServicer(Models(runners)))]
    finally:
        for runner in runners:
            runner.close()
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        for model in models:
            model.backend.deactivate()
        metrics.loaded_models.set(0)


SERVICE = Definition("executor", ExecutorConfig, build)

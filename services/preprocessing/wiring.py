"""Preprocessing, assembled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from headrace.api.preprocessing.v1 import preprocessing_pb2
from headrace.hop.definition import Definition, Runtime, Service
from headrace.steps.service.program_cache import Programs
from headrace.steps.service.runner import Runner
from services.preprocessing.config import PreprocessingConfig
from services.preprocessing.metrics import Metrics
from services.preprocessing.servicer import PreprocessingServicer


@asynccontextmanager
async def build(config: PreprocessingConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service and the threads it computes in."""
    pool = ThreadPoolExecutor(config.threads, thread_name_prefix="preprocessing")
    try:
        runner = Runner(
            Programs("preprocessing", config.max_programs),
            pool,
            config.inline_work,
            runtime.telemetry.once(Metrics),
            runtime.telemetry.log,
            time.monotonic,
            "preprocessing",
        )
        descriptor = preprocessing_pb2.DESCRIPTOR.services_by_name["PreprocessingService"]
        yield [Service(descriptor, PreprocessingServicer(runner), takes_payload=True)]
    finally:
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)


SERVICE = Definition("preprocessing", PreprocessingConfig, build)

"""Postprocessing, assembled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from headrace.api.postprocessing.v1 import postprocessing_pb2
from headrace.hop.definition import Definition, Runtime, Service
from headrace.steps.service.program_cache import Programs
from headrace.steps.service.runner import Runner
from services.postprocessing.config import PostprocessingConfig
from services.postprocessing.metrics import Metrics
from services.postprocessing.servicer import PostprocessingServicer


@asynccontextmanager
async def build(config: PostprocessingConfig, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
    """The service and the threads it computes in."""
    pool = ThreadPoolExecutor(config.threads, thread_name_prefix="postprocessing")
    try:
        runner = Runner(
            Programs("postprocessing", config.max_programs),
            pool,
            config.inline_work,
            runtime.telemetry.once(Metrics),
            runtime.telemetry.log,
            time.monotonic,
            "postprocessing",
        )
        descriptor = postprocessing_pb2.DESCRIPTOR.services_by_name["PostprocessingService"]
        yield [Service(descriptor, PostprocessingServicer(runner), takes_payload=True)]
    finally:
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)


SERVICE = Definition("postprocessing", PostprocessingConfig, build)

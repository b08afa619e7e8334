"""An inference without sockets, over one pipeline that a test has compiled."""

import time
from typing import Any

from prometheus_client import CollectorRegistry

from services.router.inference import Inference
from services.router.metrics import Metrics
from services.router.pipelines import Compiler, Pipelines, Served


class OnePipeline(Pipelines):
    """Finds the same whatever its name is."""

    def __init__(self, found: Served) -> None:
        super().__init__(Compiler({}))
        self._only = found

    def find(self, name: str, version: int) -> Served:
        return self._only


async def refresh() -> None:
    """Nothing changes here."""


def inference(found: Pipelines | Served, *observers: Any, **options: Any) -> Inference:
    pipelines = OnePipeline(found) if isinstance(found, Served) else found
    return Inference(pipelines, refresh, Metrics(CollectorRegistry()), time.monotonic, *observers, **options)

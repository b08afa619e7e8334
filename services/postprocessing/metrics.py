"""The instruments of postprocessing: those of every service that runs steps, under its own name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from headrace.steps.service.metrics import Instruments


class Metrics(Instruments):
    """`headrace_postprocessing_*` on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, "postprocessing")

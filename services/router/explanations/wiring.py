"""What explanations are made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headrace.hop.definition import Runtime
from headrace.hop.process.background import running
from headrace.repository import Repository
from headrace.repository.model_index import Indexes
from services.router.explanations.asked.on_request import OnRequest
from services.router.explanations.asked.servicer import ExplainServicer
from services.router.explanations.baselines import RepositoryBaselines
from services.router.explanations.clients import source
from services.router.explanations.explainer import Explainer
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.settings import ExplanationSettings
from services.router.explanations.stored import StoredPredictions
from services.router.explanations.subject import Baselines, Subjects
from services.router.facts.wiring import Facts
from services.router.pipelines import Compiler, Pipelines
from services.router.shadow.shadows import Shadows


@asynccontextmanager
async def explanations(
    settings: ExplanationSettings,
    facts: Facts,
    runtime: Runtime,
    compiler: Compiler,
    pipelines: Pipelines,
    shadows: Shadows,
    indexes: Indexes | None,
) -> AsyncIterator[ExplainServicer]:
    """Serves what is asked for, and explains stored predictions meanwhile."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(ExplanationMetrics)
    subjects = Subjects(compiler.shadow_route, _baselines(settings, indexes, log), time.monotonic)
    explainer = Explainer(settings, shadows, facts.reports, metrics, time.monotonic)
    servicer = ExplainServicer(
        OnRequest(pipelines, subjects, explainer, compiler.shadow_route, time.monotonic)
    )
    if facts.monitoring is None:
        yield servicer
        return
    stored = StoredPredictions(source(facts.monitoring), pipelines, subjects, explainer, metrics, log)
    async with running(stored.run(), "explanations", log):
        yield servicer


def _baselines(settings: ExplanationSettings, indexes: Indexes | None, log: Any) -> Baselines:
    if settings.models is None:
        return lambda _: None
    return RepositoryBaselines(Repository(settings.models, trust=settings.trust(), index=indexes), log)

"""What explanations are made of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from headrace.hop.definition import Runtime
from headrace.hop.process.background import running
from headrace.repository import Repository
from headrace.repository.model_index import Indexes
from services.router.explanations.asked.on_request import OnRequest
from services.router.explanations.asked.servicer import ExplainServicer
from services.router.explanations.baselines import RepositoryBaselines
from services.router.explanations.explainer import Explainer
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.reports import Reports
from services.router.explanations.settings import ExplanationSettings
from services.router.explanations.subject import Baselines, Subjects
from services.router.pipelines import Compiler, Pipelines
from services.router.shadow.shadows import Shadows


@dataclass(frozen=True, slots=True)
class Explanations:
    """`explainer`: is offered what was answered. `servicer`: serves what is asked for."""

    explainer: Explainer
    servicer: ExplainServicer


@asynccontextmanager
async def explanations(
    settings: ExplanationSettings,
    reports: Reports,
    runtime: Runtime,
    compiler: Compiler,
    pipelines: Pipelines,
    shadows: Shadows,
    indexes: Indexes | None,
) -> AsyncIterator[Explanations]:
    """Explains meanwhile."""
    log, metrics = runtime.telemetry.log, runtime.telemetry.once(ExplanationMetrics)
    async with AsyncExitStack() as stack:
        subjects = Subjects(compiler.shadow_route, _baselines(settings, indexes, log), time.monotonic)
        explainer = Explainer(settings, subjects, shadows, reports, metrics, time.monotonic, log)
        await stack.enter_async_context(running(explainer.run(), "explanations", log))
        on_request = OnRequest(pipelines, subjects, explainer, compiler.shadow_route, time.monotonic)
        yield Explanations(explainer, ExplainServicer(on_request))


def _baselines(settings: ExplanationSettings, indexes: Indexes | None, log: Any) -> Baselines:
    if settings.models is None:
        return lambda _: None
    return RepositoryBaselines(Repository(settings.models, trust=settings.trust(), index=indexes), log)

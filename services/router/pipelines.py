"""The pipelines that the router serves, each revision ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.pipeline import (
    DocumentError,
    FeaturesStage,
    ModelStage,
    Pipeline,
    Stage,
    StepsStage,
    plan,
    stage_kind,
)
from services.router import errors
from services.router.ports import Services
from services.router.routes.run import Route
from services.router.stages.features import FeaturesRun
from services.router.stages.runner import StageRun
from services.router.stages.steps import ModelRun, StepsRun


@dataclass(frozen=True, slots=True)
class Served:
    """One revision of a pipeline and its routes."""

    pipeline: Pipeline
    routes: tuple[Route, ...]


class Compiler:
    """Makes pipelines ready to run on the services that are configured. `clock`: monotonic seconds."""

    def __init__(self, services: Services, features_timeout_s: float, clock: Callable[[], float]) -> None:
        self._services = services
        self._features_timeout_s = features_timeout_s
        self._clock = clock

    def accept(self, pipeline: Pipeline) -> None:
        """Raises DocumentError naming each stage whose service is not configured."""
        at = pipeline.source.problem
        problems = [
            at(f"stages[{i}]", f"this router has no client for the service of a {stage_kind(stage)} stage")
            for i, stage in enumerate(pipeline.stages)
            if self._run_of(stage) is None
        ]
        if problems:
            raise DocumentError(problems)

    def compile(self, pipeline: Pipeline) -> Served:
        """The pipeline with its one route. Raises DocumentError as `accept` does."""
        self.accept(pipeline)
        runs = tuple(run for run in map(self._run_of, pipeline.stages) if run is not None)
        return Served(pipeline, (Route("default", plan(pipeline), runs),))

    def _run_of(self, stage: Stage) -> StageRun | None:
        services = self._services
        if isinstance(stage, FeaturesStage):
            source = services.features
            return FeaturesRun(stage, source, self._features_timeout_s, self._clock) if source else None
        if isinstance(stage, ModelStage):
            return ModelRun(stage, services.executor) if services.executor else None
        if not isinstance(stage, StepsStage):
            return None
        runner = services.preprocessing if stage.kind == "preprocessing" else services.postprocessing
        return StepsRun(stage, runner) if runner else None


class Pipelines:
    """What is served now, and the version before it, for callers that have not seen the new one."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._current: dict[str, Served] = {}
        self._earlier: dict[str, Served] = {}
        self._unusable: frozenset[str] = frozenset()

    def replace(self, pipelines: Mapping[str, Pipeline], unusable: frozenset[str] = frozenset()) -> None:
        """Serves these from now on; `unusable`: names of those whose documents are broken and were never good.

        Raises DocumentError, and then serves what it did.
        """
        current: dict[str, Served] = {}
        for name, pipeline in pipelines.items():
            old = self._current.get(name)
            same = old is not None and old.pipeline is pipeline
            current[name] = old if same and old is not None else self._compiler.compile(pipeline)
        for name, served in self._current.items():
            if name not in current:
                self._earlier.pop(name, None)
            elif current[name] is not served:
                self._earlier[name] = served
        self._current = current
        self._unusable = unusable

    def find(self, name: str, version: int) -> Served:
        """The pipeline in a version, 0 = the current. Raises Fault NOT_FOUND, FAILED_PRECONDITION."""
        served = self._current.get(name)
        if served is None:
            if name in self._unusable:
                raise errors.pipeline_quarantined(name)
            raise errors.pipeline_unknown(name, self._current)
        if version in (0, served.pipeline.version):
            return served
        earlier = self._earlier.get(name)
        if earlier is not None and earlier.pipeline.version == version:
            return earlier
        known = [s.pipeline.version for s in (served, earlier) if s is not None]
        raise errors.version_unknown(name, version, known)

    def list(self) -> list[Pipeline]:
        """What is served now, by name."""
        return [served.pipeline for _, served in sorted(self._current.items())]

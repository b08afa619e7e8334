"""The pipelines that the router serves, each revision ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.pipeline import DocumentError, Pipeline, plan
from services.router import errors
from services.router.routes.caps import PipelineCaps
from services.router.routes.partition import RowPartition
from services.router.routes.route import Route, RouteRule
from services.router.stages.runner import RunnerFactory


@dataclass(frozen=True, slots=True)
class Served:
    """One revision of a pipeline and its routes. `rule`: chooses among several; None: all rows take the only one.

    `caps`: what requests may use; None: there are no caps. The same object in each release of a pipeline, as it counts what is
    used. `partition`: which replica of the executor each row goes to; None: any.
    """

    pipeline: Pipeline
    routes: tuple[Route, ...]
    rule: RouteRule | None = None
    caps: PipelineCaps | None = None
    partition: RowPartition | None = None


class Compiler:
    """Makes pipelines ready to run. `runners`: by kind of stage; kinds whose service is not configured are absent."""

    def __init__(self, runners: Mapping[str, RunnerFactory]) -> None:
        self._runners = runners

    def accept(self, pipeline: Pipeline) -> None:
        """Raises DocumentError naming each stage whose service is not configured."""
        at = pipeline.source.problem
        problems = [
            at(f"stages[{i}]", f"this router has no client for the service of a {stage.kind} stage")
            for i, stage in enumerate(pipeline.stages)
            if stage.kind not in self._runners
        ]
        if problems:
            raise DocumentError(problems)

    def compile(self, pipeline: Pipeline) -> Served:
        """The pipeline with its one route. Raises DocumentError as `accept` does."""
        self.accept(pipeline)
        runners = tuple(self._runners[stage.kind](stage) for stage in pipeline.stages)
        return Served(pipeline, (Route("default", plan(pipeline), runners),))


class Pipelines:
    """What is served now, and of each pipeline the version before, for an ingress that has not read the new one yet."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._current: dict[str, Served] = {}
        self._earlier: dict[str, Served] = {}
        self._unusable: frozenset[str] = frozenset()

    def replace(self, pipelines: Mapping[str, Pipeline], unusable: frozenset[str] = frozenset()) -> None:
        """Serves these from now on; `unusable`: names of those whose documents are broken and were never good.

        Raises DocumentError, and then goes on serving what it served before.
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

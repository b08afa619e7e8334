"""The pipelines that the router serves, each revision ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.pipeline import DocumentError, Pipeline, plan
from headrace.releases import LIVE, Released
from services.router import errors
from services.router.routes.route import Route, RouteRule
from services.router.stages.runner import RunnerFactory
from services.router.ticks.counters import NO_RELEASE, Counted


@dataclass(frozen=True, slots=True)
class Served:
    """What serves of a pipeline: a route per arm, the live one first. `rule`: chooses among several; None: all take the first.

    `source`: what it was made from. `counted`: how its rows are counted.
    """

    pipeline: Pipeline
    routes: tuple[Route, ...]
    rule: RouteRule | None = None
    source: Released | None = None
    counted: Counted = NO_RELEASE

    @property
    def release(self) -> int:
        """Number of the release; 0: there is no release store."""
        return self.source.number if self.source else 0


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

    def compile(self, found: Released) -> Served:
        """A route for each arm. Raises DocumentError as `accept` does."""
        routes = []
        for name, pipeline in sorted(found.arms.items(), key=lambda arm: arm[0] != LIVE):
            self.accept(pipeline)
            runners = tuple(self._runners[stage.kind](stage) for stage in pipeline.stages)
            routes.append(Route(name, plan(pipeline), runners))
        return Served(found.live, tuple(routes), source=found, counted=Counted.of(found.release))


class Pipelines:
    """What is served now, and of each pipeline the version before, for an ingress that has not read the new one yet."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._current: dict[str, Served] = {}
        self._earlier: dict[str, Served] = {}
        self._unusable: frozenset[str] = frozenset()

    def replace(self, pipelines: Mapping[str, Released], unusable: frozenset[str] = frozenset()) -> None:
        """Serves these from now on; `unusable`: names of those whose documents are broken and were never good.

        Raises DocumentError, and then goes on serving what it served before.
        """
        current: dict[str, Served] = {}
        for name, found in pipelines.items():
            old = self._current.get(name)
            same = old is not None and old.source is found
            current[name] = old if same and old is not None else self._compiler.compile(found)
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

    def current(self) -> Mapping[str, Served]:
        """What is served now."""
        return self._current

    def list(self) -> list[Served]:
        """What is served now, by name."""
        return [served for _, served in sorted(self._current.items())]

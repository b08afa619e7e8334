"""The pipelines that the router serves, each revision ready to run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from headrace.pipeline import DocumentError, Pipeline, plan
from headrace.releases import LIVE, Release
from headrace.releases.catalog import Released
from services.router import errors
from services.router.cache.route import AnswerCaches
from services.router.routes.caps import PipelineCaps
from services.router.routes.partition import Replicas, RowPartition
from services.router.routes.route import Route
from services.router.routes.table import RouteTable
from services.router.shadow.route import ShadowRoute
from services.router.stages.runner import RunnerFactory
from services.router.ticks.counters import NO_RELEASE, Counted


@dataclass(frozen=True, slots=True)
class Served:
    """What serves of a pipeline: a route per arm, the live one first. `rule`: chooses among several; None: all take the first.

    `source`: what it was made from. `caps`: what requests may use; None: there are no caps. The same object in each release of
    a pipeline, as it counts what is used. `partition`: which replica of the executor each row goes to; None: any.
    """

    pipeline: Pipeline
    routes: tuple[Route, ...]
    rule: RouteTable | None = None
    caps: PipelineCaps | None = None
    partition: RowPartition | None = None
    source: Released | None = None
    # Number of the release.
    release: int = 0
    # Where a copy of some requests runs after they were answered.
    shadow: ShadowRoute | None = None
    # How its rows are counted.
    counted: Counted = NO_RELEASE


class Compiler:
    """Makes pipelines ready to run. `runners`: by kind of stage; kinds whose service is not configured are absent.

    `shadow_runners`: makes those of shadows, which have clients of their own; called for the first shadow. `caches`: for the
    answers of pipelines that ask for it; None: no answer is kept. `replicas`: of the executor, for partitions; None: there is no
    executor. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        runners: Mapping[str, RunnerFactory],
        shadow_runners: Callable[[], Mapping[str, RunnerFactory]] | None = None,
        caches: AnswerCaches | None = None,
        replicas: Replicas | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runners = runners
        self._replicas = replicas
        self._clock = clock
        self._shadow_runners = shadow_runners or (lambda: runners)
        self._caches = caches

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
        """A route for each arm. Raises DocumentError as `accept` does, ReleaseError if the release does not fit its pipelines."""
        routes = []
        for name, pipeline in sorted(found.arms.items(), key=lambda arm: arm[0] != LIVE):
            self.accept(pipeline)
            runners = tuple(self._runners[stage.kind](stage) for stage in pipeline.stages)
            route = Route(name, plan(pipeline), runners)
            routes.append(route if self._caches is None else self._caches.add(route))
        table = RouteTable.compile(found.release, found.arms)
        shadow, counted = self._shadow(found), Counted.of(found.release)
        partition = self._partition(found.release)
        return Served(
            found.live,
            tuple(routes),
            table if table.decides else None,
            partition=partition,
            source=found,
            release=found.number,
            shadow=shadow,
            counted=counted,
        )

    def _partition(self, release: Release) -> RowPartition | None:
        if release.partition is None or self._replicas is None:
            return None
        return RowPartition(release.partition, self._replicas, self._clock)

    def _shadow(self, found: Released) -> ShadowRoute | None:
        shadow = found.release.shadow
        if shadow is None:
            return None
        route = self.shadow_route(shadow.arm, found.arms[shadow.arm])
        # Its own salt, so that it is independent of rollouts; the same over releases, so that a request stays in the share.
        return ShadowRoute(route, shadow.share, f"shadow-{shadow.arm}", found.number)

    def shadow_route(self, arm: str, pipeline: Pipeline) -> Route:
        """The route of a shadow. Raises DocumentError as `accept` does."""
        self.accept(pipeline)
        made = self._shadow_runners()
        return Route(arm, plan(pipeline), tuple(made[stage.kind](stage) for stage in pipeline.stages))


class Pipelines:
    """What is served now, and of each pipeline the version before, for an ingress that has not read the new one yet."""

    def __init__(self, compiler: Compiler, clock: Callable[[], float] = time.monotonic) -> None:
        self._compiler = compiler
        self._clock = clock
        self._caps: dict[str, PipelineCaps] = {}
        self._routers = 1
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
            current[name] = old if same and old is not None else self._compiled(name, found)
        for name in self._caps.keys() - current.keys():
            del self._caps[name]
        for name, served in self._current.items():
            if name not in current:
                self._earlier.pop(name, None)
            elif current[name] is not served:
                self._earlier[name] = served
        self._current = current
        self._unusable = unusable

    def _compiled(self, name: str, found: Released) -> Served:
        served = self._compiler.compile(found)
        cap = found.release.caps
        if cap is None and name not in self._caps:
            return served
        caps = self._caps.setdefault(name, PipelineCaps(name, self._clock, self._routers))
        caps.apply(cap)
        return replace(served, caps=caps if cap else None)

    def share(self, routers: int) -> None:
        """So many routers serve now: each has its part of the caps that they share."""
        self._routers = routers
        for caps in self._caps.values():
            caps.share(routers)

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

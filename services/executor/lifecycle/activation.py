"""Activates versions: makes their backends, compares them with the metadata and the samples, and warms them up."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING

import numpy as np

from headrace.columns import DType
from headrace.repository import Artifact, Repository, TensorSpec, stated_tolerance
from headrace.repository.records import Measured
from services.executor.backends.backend import Array, BackendError, BackendFactory
from services.executor.config import ExecutorConfig
from services.executor.errors import unusable
from services.executor.execution.model import Model, check_shapes
from services.executor.failover.group import FailoverGroup, Member
from services.executor.failover.health import GroupHealth
from services.executor.failover.samples import find_difference, read_samples
from services.executor.lifecycle.signature import check_signature
from services.executor.metrics import Metrics

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_WARM_RUNS = 5
# A warm-up run may take this long (seconds).
_WARM_S = 60.0
# A load while other versions serve rests after each run: it takes a quarter of a core, not a whole one.
_REST = 3.0
_REST_RUNS = 3


@dataclass(slots=True, eq=False)
class LoadHandle:
    """A load in progress. `progress`: what it is doing now, for operators."""

    progress: str = "reading"
    members: list[Member] = field(default_factory=list)
    # Ends the process that checks the files, while there is one.
    end_check: Callable[[], None] = lambda: None
    cancelled: bool = False
    # Set once it is loaded or refused, or must wait for a check of its files; of a load at the start.
    examined: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, what: str) -> None:
        self.progress = what

    def cancel(self) -> None:
        """Asks the load to end with an error; from any thread."""
        self.cancelled = True
        self.end_check()
        for member in self.members:
            member.backend.interrupt(time.monotonic())


class Activator:
    """Activates versions of models. Its methods block: call them on threads."""

    def __init__(
        self,
        repository: Repository,
        backends: Mapping[str, BackendFactory],
        config: ExecutorConfig,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self.repository = repository
        self._backends = backends
        self._config = config
        self._metrics = metrics
        self._log = log

    def activate(
        self, artifact: Artifact, why: str, loading: LoadHandle, measured: Sequence[Measured] = ()
    ) -> Model:
        """Activates a version from its verified bytes. `why`: "start", "load" or "call", for metrics.

        `measured`: what is known of its backends, in their order; what is not known is measured, which takes long.
        Raises RepositoryError; then nothing stays active.
        """
        began = time.perf_counter()
        about = artifact.metadata
        model = self._build_group(artifact, loading, measured)
        try:
            self._activate_members(model, loading, _REST if why == "load" else 0.0)
            loading.tell("comparing with the samples")
            _compare_samples(model)
        except BackendError as error:
            model.group.deactivate()
            raise unusable(about, str(error), "then publish it as a new version") from error
        except BaseException:
            model.group.deactivate()
            raise
        took = time.perf_counter() - began
        self._metrics.cold_starts.labels(about.name, about.version, why).inc()
        self._metrics.load_seconds.labels(about.name, about.version).set(took)
        self._report(model, took)
        return model

    def _build_group(self, artifact: Artifact, loading: LoadHandle, measured: Sequence[Measured]) -> Model:
        about = artifact.metadata
        settings = self._config.settings_of(about.name)
        if about.max_rows is not None:
            settings = settings.model_copy(update={"max_rows": min(settings.max_rows, about.max_rows)})
        backends = settings.backends or (about.backend,)
        for entry, measurement in zip(backends, chain(measured, repeat(Measured())), strict=False):
            kind, _, argument = entry.partition(":")
            factory = self._backends.get(kind)
            if factory is None:
                known = ", ".join(sorted(self._backends))
                raise unusable(about, f"backend {kind!r} is not built in", f"use one of: {known}")
            try:
                own = settings.model_copy(update={"threads": settings.threads or measurement.threads})
                backend = factory(artifact, own, argument, loading.tell)
            except BackendError as error:
                raise unusable(about, str(error), "correct the executor's settings") from error
            pool = ThreadPoolExecutor(settings.instances, thread_name_prefix=f"run-{about.name}")
            loading.members.append(Member(backend, pool, measured=measurement))
        health = GroupHealth(len(loading.members), self._config.probe_s)
        group = FailoverGroup(
            loading.members,
            health,
            read_samples(artifact),
            stated_tolerance(artifact.metadata),
            self._config.patience_s,
        )
        return Model(artifact, settings, group)

    def _activate_members(self, model: Model, loading: LoadHandle, rest: float) -> None:
        """Activates every backend. One that fails is lost; raises its error only if all fail."""
        group, about = model.group, model.metadata
        problems = []
        for which, member in enumerate(group.members):
            name = member.backend.name
            loading.tell(f"activating {name}")
            try:
                member.backend.activate()
                member.active = True
                check_signature(about, member.backend)
                loading.tell(f"warming up {name}")
                warm_up_member(model, member, self._config.warmup_rows, rest)
            except BackendError as error:
                problems.append(error)
                if len(group.members) > 1:
                    self._log.warning(
                        "backend can't be used yet",
                        model=about.name,
                        version=about.version,
                        backend=name,
                        why=str(error),
                    )
                if member.active:
                    member.active = False
                    member.backend.deactivate()
                group.health.lost(which, time.monotonic())
        if len(problems) == len(group.members):
            raise problems[0]

    def _report(self, model: Model, took: float) -> None:
        about, active = model.metadata, model.group.active
        self._log.info(
            "model loaded",
            model=about.name,
            version=about.version,
            backend=active.backend.name,
            standby=model.group.on_standby,
            device=active.backend.capabilities.device,
            sha256=about.sha256,
            seconds=round(took, 3),
            run_us={rows: round(active.times.estimate(rows) * 1e6) for rows in self._config.warmup_rows},
        )


def warm_up_member(model: Model, member: Member, sizes: tuple[int, ...], rest: float = 0.0) -> None:
    """Runs the model at each batch size, so that no request has a slow first run, and measures run times that are not known.

    `rest`: pause after each run, as a multiple of its time. Raises BackendError if a run fails.
    """
    most = min(model.settings.max_rows, member.backend.capabilities.max_rows or model.settings.max_rows)
    known, run_s = member.measured.run_s, {}
    for rows in sorted({min(n, most) for n in sizes}):
        inputs = {spec.name: blank_tensor(spec, rows) for spec in model.metadata.inputs}
        seconds = []
        for _ in range(1 if rows in known else _REST_RUNS if rest else _WARM_RUNS):
            began = time.perf_counter()
            try:
                outputs = member.backend.run(inputs, time.monotonic() + _WARM_S)
                check_shapes(model.metadata, outputs, rows)
            except Exception as error:
                problem = str(error).partition("\n")[0]
                raise BackendError(
                    f"a warm-up run of {rows} blank rows failed ({problem}); correct the model"
                ) from error
            seconds.append(time.perf_counter() - began)
            if rest:
                time.sleep(rest * seconds[-1])
        # The first run allocates and compiles: it says nothing about later ones.
        run_s[rows] = known[rows] if rows in known else statistics.median(seconds[1:])
        member.times.learn(rows, run_s[rows])
    member.measured = Measured(member.backend.capabilities.threads, run_s)


def _compare_samples(model: Model) -> None:
    """Checks that each active backend answers the samples as recorded, or else as the first one does.

    Raises RepositoryError.
    """
    group, about = model.group, model.metadata
    active = [m for m in group.members if m.active]
    if group.expected is None and len(group.members) == 1:
        return
    for member in active:
        try:
            found = member.backend.run(group.samples.inputs, time.monotonic() + _WARM_S)
        except Exception as error:
            problem = str(error).partition("\n")[0]
            problem = f"{member.backend.name} can't run the samples ({problem})"
            remedy = "publish it with samples.json: rows that it can run, and its answers"
            raise unusable(about, problem, remedy) from error
        if group.expected is None:
            group.expected = {s.name: np.array(found[s.name]) for s in about.outputs}
        elif problem := find_difference(found, group.expected, group.tolerance):
            allowed = group.tolerance
            tolerated = f"{allowed.absolute:g} + {allowed.relative:g} of the value"
            problem = (
                f"{member.backend.name} answers the samples otherwise: {problem}, tolerated is {tolerated}"
            )
            raise unusable(about, problem, "check the artifact, or state a wider `parity` in metadata.json")


def blank_tensor(spec: TensorSpec, rows: int) -> Array:
    """A tensor of shape (rows, *row_shape) of zeros, or of empty texts."""
    if spec.dtype is DType.BYTES:
        return np.full((rows, *spec.row_shape), "", object)
    return np.zeros((rows, *spec.row_shape), spec.dtype.numpy)

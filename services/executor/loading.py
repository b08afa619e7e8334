"""Models made ready: read and checked, activated, compared with their metadata, and warm."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import structlog

from headrace.columns import DType
from headrace.repository import Artifact, Metadata, Repository, RepositoryError, TensorSpec
from services.executor.backends.backend import Array, Backend, BackendError, Tensors
from services.executor.config import ExecutorConfig, ModelSettings
from services.executor.metrics import Metrics
from services.executor.run_times import RunTimes
from services.executor.signature import check_signature

BackendFactory = Callable[[Artifact, ModelSettings], Backend]
_WARM_RUNS = 5


@dataclass(frozen=True, slots=True)
class Model:
    """One version, ready to run. `times`: what warm-up taught."""

    metadata: Metadata
    backend: Backend
    settings: ModelSettings
    times: RunTimes

    @property
    def max_rows(self) -> int:
        """Rows in one run, at most."""
        return min(self.settings.max_rows, self.backend.capabilities.max_rows or self.settings.max_rows)

    @property
    def instances(self) -> int:
        """Runs at the same time, at most."""
        return self.settings.instances if self.backend.capabilities.concurrent_runs else 1

    def run(self, inputs: Tensors) -> Tensors:
        """The declared outputs. Blocks; raises what the engine raises, BackendError for a wrong shape."""
        rows = len(next(iter(inputs.values())))
        outputs = self.backend.run(inputs)
        for spec in self.metadata.outputs:
            found = outputs[spec.name].shape
            if found != (rows, *spec.row_shape):
                raise BackendError(f"output {spec} of {rows} rows came back with shape {list(found)}")
        return outputs


class Loader:
    """Loads what the settings name. Blocks: for a thread, before the service is ready."""

    def __init__(
        self,
        repository: Repository,
        backends: Mapping[str, BackendFactory],
        metrics: Metrics,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._repository = repository
        self._backends = backends
        self._metrics = metrics
        self._log = log

    def load_all(self, config: ExecutorConfig) -> list[Model]:
        """The models of `config.load`, oldest version first. Raises RepositoryError; none stays active."""
        loaded: list[Model] = []
        try:
            for name, version in self._wanted(config):
                loaded.append(self._load(name, version, config))
        except BaseException:
            for model in loaded:
                model.backend.deactivate()
            raise
        self._metrics.loaded_models.set(len(loaded))
        return loaded

    def _wanted(self, config: ExecutorConfig) -> list[tuple[str, str]]:
        entries = self._repository.models() if config.load == "all" else config.load
        wanted: dict[tuple[str, str], None] = {}
        for entry in entries:
            name, _, version = entry.partition(":")
            versions = [version] if version else self._repository.versions(name)
            if not versions:
                there = ", ".join(self._repository.models()) or "none"
                raise RepositoryError(
                    name, "", f"there is no such model (there are: {there})", "correct `load`"
                )
            wanted.update(((name, v), None) for v in versions)
        return list(wanted)

    def _load(self, name: str, version: str, config: ExecutorConfig) -> Model:
        began = time.perf_counter()
        artifact = self._repository.read(name, version)
        factory = self._backends.get(artifact.metadata.backend)
        if factory is None:
            known = ", ".join(sorted(self._backends))
            raise RepositoryError(
                name,
                version,
                f"backend {artifact.metadata.backend!r} is not built in",
                f"use one of: {known}",
            )
        settings = config.settings_of(name)
        model = Model(artifact.metadata, factory(artifact, settings), settings, RunTimes())
        self._activate(model, config.warmup_rows)
        took = time.perf_counter() - began
        self._metrics.cold_starts.labels(name).inc()
        self._metrics.load_seconds.labels(name).set(took)
        self._log.info(
            "model loaded",
            model=name,
            version=version,
            backend=model.backend.name,
            device=model.backend.capabilities.device,
            sha256=artifact.metadata.sha256,
            seconds=round(took, 3),
            run_us={rows: round(model.times.estimate(rows) * 1e6) for rows in config.warmup_rows},
        )
        return model

    def _activate(self, model: Model, sizes: tuple[int, ...]) -> None:
        about = model.metadata
        try:
            model.backend.activate()
            check_signature(about, model.backend)
            warm_up(model, sizes)
        except BackendError as error:
            model.backend.deactivate()
            raise RepositoryError(
                about.name, about.version, str(error), "then publish it as a new version"
            ) from error
        except BaseException:
            model.backend.deactivate()
            raise


def warm_up(model: Model, sizes: tuple[int, ...]) -> None:
    """Runs the model at each batch size, so that no request pays for a first run, and learns the run times.

    Raises BackendError if it can't run.
    """
    for rows in sorted({min(n, model.max_rows) for n in sizes}):
        inputs = {spec.name: _blank(spec, rows) for spec in model.metadata.inputs}
        seconds = []
        for _ in range(_WARM_RUNS):
            began = time.perf_counter()
            try:
                model.run(inputs)
            except Exception as error:
                problem = str(error).partition("\n")[0]
                raise BackendError(
                    f"a warm-up run of {rows} blank rows failed ({problem}); correct the model"
                ) from error
            seconds.append(time.perf_counter() - began)
        # The first ones allocate and compile: they say nothing about the runs to come.
        model.times.learn(rows, statistics.median(seconds[1:]))


def _blank(spec: TensorSpec, rows: int) -> Array:
    if spec.dtype is DType.BYTES:
        return np.full((rows, *spec.row_shape), "", object)
    return np.zeros((rows, *spec.row_shape), spec.dtype.numpy)

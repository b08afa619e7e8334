"""The loaded versions: which of them a call uses, and which are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any

from headrace.columns import Batch
from headrace.hop.process import memory as lean
from headrace.repository import Artifact, Metadata, RepositoryError
from services.executor import errors
from services.executor.execution.calls import ExecuteResult
from services.executor.execution.model import Model
from services.executor.execution.runner import RunnerContext, VersionRunner
from services.executor.lifecycle.activation import LoadHandle
from services.executor.lifecycle.memory import MemoryBudget
from services.executor.lifecycle.quarantine import Key


@dataclass(slots=True, eq=False)
class LoadedVersion:
    """A loaded version. `runner` None: it sleeps; its files are verified, and a call activates it."""

    artifact: Artifact
    runner: VersionRunner | None
    waking: asyncio.Task[None] | None = None

    @property
    def metadata(self) -> Metadata:
        return self.artifact.metadata


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """The status of a version in the repository. `entry`: if it is loaded; `loading`: if a load is in progress.

    `problem`: why it is in quarantine; empty if it is not.
    """

    model: str
    version: str
    entry: LoadedVersion | None
    loading: LoadHandle | None
    problem: str = ""


class LoadedVersions:
    """The loaded versions. Lives on one event loop; `wake` activates a sleeping version, and is called on threads.

    `budget`: bytes of memory; None: no limit. Every change is one assignment: a call keeps the version that it found,
    the next call finds the new one.
    """

    def __init__(self, wake: Callable[[Artifact], Model], context: RunnerContext, budget: int | None) -> None:
        self._activate = wake
        self._context = context
        self._memory: MemoryBudget[Key] = MemoryBudget(budget)
        self._bounded = budget is not None
        self._entries: dict[str, dict[str, LoadedVersion]] = {}
        # The version of each model for calls that name none.
        self._current: dict[str, LoadedVersion] = {}
        # The versions of each model that should serve. Calls that name none use the last of them that is loaded.
        self._order: dict[str, list[str]] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends waiting calls with an error, and gives all memory back."""
        entries = [e for versions in self._entries.values() for e in versions.values()]
        self._entries, self._current = {}, {}
        for entry in entries:
            if entry.waking is not None:
                entry.waking.cancel()
            if entry.runner is not None:
                entry.runner.close()
                await asyncio.to_thread(entry.runner.model.group.deactivate)
        while self._retiring:
            await asyncio.wait(self._retiring)
        self._show_metrics()

    async def execute(self, model: str, version: str, batch: Batch, received: float) -> ExecuteResult:
        """Runs a batch. `version` "": the one that was loaded last. `received`: when the call came (monotonic seconds).

        Raises Fault: NOT_FOUND, FAILED_PRECONDITION for a version in quarantine, and what `VersionRunner.execute` raises.
        """
        entry = self._find(model, version)
        if self._bounded:
            self._memory.touch((model, entry.metadata.version))
        if entry.runner is not None:
            return await entry.runner.execute(batch, received)
        while (runner := entry.runner) is None:
            await self._wait_until_awake(entry)
            if not self._has(entry):
                raise errors.unloading(model, entry.metadata.version)
        result = await runner.execute(batch, received)
        self._context.metrics.cold_rows.labels(model, entry.metadata.version).inc(len(batch))
        return replace(result, cold_start=True)

    def all(self) -> list[LoadedVersion]:
        """All loaded versions, by model, oldest version first."""
        return [e for name in sorted(self._entries) for e in self._entries[name].values()]

    def _install(self, model: str, versions: dict[str, LoadedVersion]) -> None:
        entries, current = dict(self._entries), dict(self._current)
        if versions:
            entries[model] = versions
            last = [v for v in self._order.get(model, ()) if v in versions]
            current[model] = versions[last[-1] if last else next(reversed(versions))]
        else:
            del entries[model], current[model]
        self._entries, self._current = entries, current
        self._show_metrics()

    def _find(self, model: str, version: str) -> LoadedVersion:
        entry = self._entries.get(model, {}).get(version) if version else self._current.get(model)
        if entry is None:
            self._check_unavailable(model, version)
            versions: Iterable[str] | None = self._entries.get(model)
            if versions is None:
                raise errors.model_unknown(model, self._entries)
            raise errors.version_unknown(model, version, versions)
        return entry

    def _check_unavailable(self, model: str, version: str) -> None:
        """Raises Fault if a version should serve but is not loaded; the subclass knows why."""

    def _has(self, entry: LoadedVersion) -> bool:
        about = entry.metadata
        return self._entries.get(about.name, {}).get(about.version) is entry

    def _runner(self, model: Model) -> VersionRunner:
        runner = VersionRunner(model, self._context)
        runner.show_backends()
        return runner

    async def _wait_until_awake(self, entry: LoadedVersion) -> None:
        """Activates a sleeping version, once for all calls that wait for it."""
        if entry.waking is None:
            entry.waking = asyncio.get_running_loop().create_task(self._wake(entry))
        about = entry.metadata
        try:
            await asyncio.shield(entry.waking)
        except RepositoryError as error:
            self._context.log.exception("model can't be woken", model=about.name, version=about.version)
            raise errors.no_backend(about.name).fault() from error

    async def _wake(self, entry: LoadedVersion) -> None:
        try:
            model = await asyncio.to_thread(self._activate, entry.artifact)
            runner = self._runner(model)
            if self._has(entry):
                entry.runner = runner
                self._add_to_memory(model)
            else:
                self._in_background(self._retire(runner))
        finally:
            entry.waking = None

    def _add_to_memory(self, model: Model) -> None:
        """Counts the memory of an active version; puts the least recently used to sleep if the budget is exceeded."""
        key = (model.metadata.name, model.metadata.version)
        for name, version in self._memory.add(key, model.memory_bytes):
            entry = self._entries.get(name, {}).get(version)
            if entry is not None and entry.runner is not None:
                runner, entry.runner = entry.runner, None
                self._memory.remove((name, version))
                self._context.metrics.evictions.labels(name, version).inc()
                self._context.log.info("model put to sleep", model=name, version=version)
                self._in_background(self._retire(runner))
        self._show_metrics()

    async def _retire(self, runner: VersionRunner) -> None:
        """Finishes the calls of a runner that gets no new ones, then gives its memory back."""
        await runner.drain()
        runner.close()
        await asyncio.to_thread(_free, runner.model)
        self._show_metrics()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _show_metrics(self) -> None:
        self._context.metrics.memory_bytes.set(self._memory.used)


def _free(model: Model) -> None:
    """Returns a model's memory to the system. The allocator alone would keep most of it (73 of 98 MiB of open_nsfw)."""
    model.group.deactivate()
    lean.give_back()

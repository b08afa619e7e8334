"""The versions that are loaded: which of them a call means, and which are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any

from headrace.columns import Batch
from headrace.hop.process import memory
from headrace.repository import Artifact, Metadata, RepositoryError
from services.executor import errors
from services.executor.calls import Executed
from services.executor.model import Model
from services.executor.quarantine import Key
from services.executor.residency import Residency
from services.executor.running import Runner, Surroundings


@dataclass(slots=True, eq=False)
class Entry:
    """A loaded version. `runner` None: it sleeps in the warm pool, verified, until a call comes."""

    artifact: Artifact
    runner: Runner | None
    waking: asyncio.Task[None] | None = None

    @property
    def metadata(self) -> Metadata:
        return self.artifact.metadata


class Loaded:
    """The loaded versions. Lives on one event loop; `wake`, which makes a sleeping version ready, is called on threads.

    Changes are one assignment: a call that has found its version runs on it, the next call finds the new one.
    """

    def __init__(self, wake: Callable[[Artifact], Model], around: Surroundings, budget: int | None) -> None:
        self._ready = wake
        self._around = around
        self._residency: Residency[Key] = Residency(budget)
        self._bounded = budget is not None
        self._entries: dict[str, dict[str, Entry]] = {}
        # Who answers calls that name no version.
        self._current: dict[str, Entry] = {}
        # The versions of each model that should serve; the last of them that can answers calls that name none.
        self._order: dict[str, list[str]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Answers what still waits, and gives all memory back."""
        entries = [e for versions in self._entries.values() for e in versions.values()]
        self._entries, self._current = {}, {}
        for entry in entries:
            if entry.waking is not None:
                entry.waking.cancel()
            if entry.runner is not None:
                entry.runner.close()
                await asyncio.to_thread(entry.runner.model.lineup.deactivate)
        while self._leaving:
            await asyncio.wait(self._leaving)
        self._show()

    async def execute(self, model: str, version: str, batch: Batch, received: float) -> Executed:
        """The outputs of a batch, and who made them. `version` "" = the one that was loaded last.

        Raises Fault NOT_FOUND, FAILED_PRECONDITION for a version in quarantine, and what `Runner.execute` raises.
        """
        entry = self._find(model, version)
        if self._bounded:
            self._residency.touch((model, entry.metadata.version))
        if entry.runner is not None:
            return await entry.runner.execute(batch, received)
        while (runner := entry.runner) is None:
            await self._woken(entry)
            if not self._holds(entry):
                raise errors.unloading(model, entry.metadata.version)
        return replace(await runner.execute(batch, received), cold_start=True)

    def all(self) -> list[Entry]:
        """What is loaded, by name, oldest version first."""
        return [e for name in sorted(self._entries) for e in self._entries[name].values()]

    def _install(self, model: str, versions: dict[str, Entry]) -> None:
        entries, current = dict(self._entries), dict(self._current)
        if versions:
            entries[model] = versions
            last = [v for v in self._order.get(model, ()) if v in versions]
            current[model] = versions[last[-1] if last else next(reversed(versions))]
        else:
            del entries[model], current[model]
        self._entries, self._current = entries, current
        self._show()

    def _find(self, model: str, version: str) -> Entry:
        entry = self._entries.get(model, {}).get(version) if version else self._current.get(model)
        if entry is None:
            self._check_expected(model, version)
            versions: Iterable[str] | None = self._entries.get(model)
            if versions is None:
                raise errors.model_unknown(model, self._entries)
            raise errors.version_unknown(model, version, versions)
        return entry

    def _check_expected(self, model: str, version: str) -> None:
        """Raises Fault if a version that is not loaded should be."""

    def _holds(self, entry: Entry) -> bool:
        """Whether the version is still loaded."""
        about = entry.metadata
        return self._entries.get(about.name, {}).get(about.version) is entry

    def _runner(self, model: Model) -> Runner:
        runner = Runner(model, self._around)
        runner.show_backends()
        return runner

    async def _woken(self, entry: Entry) -> None:
        """Makes a sleeping version ready again, once for all the calls that wait for it."""
        if entry.waking is None:
            entry.waking = asyncio.get_running_loop().create_task(self._wake(entry))
        about = entry.metadata
        try:
            await asyncio.shield(entry.waking)
        except RepositoryError as error:
            self._around.log.exception("model can't be woken", model=about.name, version=about.version)
            raise errors.no_backend(about.name).fault() from error

    async def _wake(self, entry: Entry) -> None:
        try:
            model = await asyncio.to_thread(self._ready, entry.artifact)
            runner = self._runner(model)
            if self._holds(entry):
                entry.runner = runner
                self._resident(model)
            else:
                self._later(self._retire(runner))
        finally:
            entry.waking = None

    def _resident(self, model: Model) -> None:
        """It is in memory; whoever was used least recently makes room if need be."""
        key = (model.metadata.name, model.metadata.version)
        for name, version in self._residency.enter(key, model.memory_bytes):
            entry = self._entries.get(name, {}).get(version)
            if entry is not None and entry.runner is not None:
                runner, entry.runner = entry.runner, None
                self._residency.leave((name, version))
                self._around.metrics.evictions.labels(name, version).inc()
                self._around.log.info("model put to sleep", model=name, version=version)
                self._later(self._retire(runner))
        self._show()

    async def _retire(self, runner: Runner) -> None:
        """The runner gets no more calls: finishes those it has, then gives its memory back."""
        await runner.drain()
        runner.close()
        await asyncio.to_thread(_freed, runner.model)
        self._show()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _show(self) -> None:
        metrics = self._around.metrics
        metrics.loaded_models.set(sum(len(versions) for versions in self._entries.values()))
        metrics.memory_bytes.set(self._residency.used)


def _freed(model: Model) -> None:
    """Its memory goes back to the system; the allocator would keep most of it (73 of 98 MiB of open_nsfw)."""
    model.lineup.deactivate()
    memory.give_back()

"""Which versions are loaded, which of them a call means, and how that changes while calls come in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from headrace.columns import Batch
from headrace.repository import Artifact, Metadata, RepositoryError, version_key
from services.executor import errors
from services.executor.calls import Executed
from services.executor.loading import Loader, Loading
from services.executor.model import Model
from services.executor.residency import Residency
from services.executor.running import Runner, Surroundings

Key = tuple[str, str]
"""Model and version."""


@dataclass(slots=True, eq=False)
class Entry:
    """A loaded version. `runner` None: it sleeps in the warm pool, verified, until a call comes."""

    artifact: Artifact
    runner: Runner | None
    waking: asyncio.Task[None] | None = None

    @property
    def metadata(self) -> Metadata:
        return self.artifact.metadata


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of a version of the repository. `entry` None: it is not loaded; `loading`: it is about to be."""

    model: str
    version: str
    entry: Entry | None
    loading: Loading | None


class Models:
    """The loaded versions. Lives on one event loop; loading happens on threads.

    Changes are one assignment: a call that has found its version runs on it, the next call finds the new one.
    """

    def __init__(self, loader: Loader, around: Surroundings, budget: int | None) -> None:
        self._loader = loader
        self._around = around
        self._residency: Residency[Key] = Residency(budget)
        self._bounded = budget is not None
        self._entries: dict[str, dict[str, Entry]] = {}
        self._newest: dict[str, Entry] = {}
        self._loading: dict[Key, tuple[asyncio.Task[Entry], Loading]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Loads what the settings name. Raises RepositoryError."""
        for name, version in await asyncio.to_thread(self._loader.wanted):
            await self._load(name, version, "start", Loading())

    async def close(self) -> None:
        """Answers what still waits, and gives all memory back."""
        for task, loading in list(self._loading.values()):
            loading.cancel()
            task.cancel()
        entries = [e for versions in self._entries.values() for e in versions.values()]
        self._entries, self._newest = {}, {}
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
        """The outputs of a batch, and who made them. `version` "" = the newest that is loaded.

        Raises Fault NOT_FOUND, and what `Runner.execute` raises.
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

    async def load(self, model: str, version: str, operator: str = "") -> Entry:
        """Makes a version (what a label means, or for "" the newest) ready beside those that serve, then takes it in.

        Loading what is loaded changes nothing. Raises Fault (`errors.not_loadable`) saying why it can't be loaded.
        """
        try:
            version = await asyncio.to_thread(self._loader.repository.asked, model, version, operator)
        except RepositoryError as error:
            raise errors.not_loadable(model, version, error) from error
        if (entry := self._entries.get(model, {}).get(version)) is not None:
            return entry
        task, _ = self._loading.get((model, version)) or self._begin(model, version, operator)
        try:
            # One caller who goes away must not take the load from the others.
            return await asyncio.shield(task)
        except RepositoryError as error:
            raise errors.not_loadable(model, version, error) from error

    async def unload(self, model: str, name: str, operator: str = "") -> list[str]:
        """The versions that went: the one that `name` (a version or a label) means, or for "" all of the model.

        No call finds them any more; those that have, finish; then their memory is given back. A load under way is
        cancelled. Raises Fault NOT_FOUND.
        """
        there = {**self._entries.get(model, {}), **{v: None for m, v in self._loading if m == model}}
        if not there:
            raise errors.model_unknown(model, self._entries)
        gone = [name] if name else list(there)
        if name and name not in there:
            with suppress(RepositoryError):
                gone = [await asyncio.to_thread(self._loader.repository.resolve, model, name)]
        if gone[0] not in there:
            raise errors.version_unknown(model, name, self._entries.get(model, {}))
        for version in gone:
            await self._unload(model, version, operator)
        return gone

    async def _unload(self, model: str, version: str, operator: str) -> None:
        if (under_way := self._loading.get((model, version))) is not None:
            under_way[1].cancel()
            await asyncio.wait([under_way[0]])
        entries = self._entries.get(model, {})
        if (entry := entries.get(version)) is None:
            return
        self._install(model, {v: e for v, e in entries.items() if v != version})
        self._residency.leave((model, version))
        if entry.runner is not None:
            await self._retire(entry.runner)
        try:
            await asyncio.to_thread(self._loader.repository.unloaded, model, version, operator)
        except RepositoryError:
            # It is gone all the same: what can't be recorded is not done, but this can't be undone.
            self._around.log.exception("unloading was not recorded", model=model, version=version)

    def all(self) -> list[Entry]:
        """What is loaded, by name, oldest version first."""
        return [e for name in sorted(self._entries) for e in self._entries[name].values()]

    async def index(self) -> list[Listed]:
        """Every version of the repository, and what is loaded though the repository has it no more."""
        repository = self._loader.repository

        def read() -> list[Key]:
            return [(m, v) for m in repository.models() for v in repository.versions(m)]

        try:
            keys = dict.fromkeys(await asyncio.to_thread(read))
        except RepositoryError as error:
            raise errors.not_loadable("", "", error) from error
        keys |= dict.fromkeys((e.metadata.name, e.metadata.version) for e in self.all())
        keys |= dict.fromkeys(self._loading)
        return [self._listed(key) for key in keys]

    def _listed(self, key: Key) -> Listed:
        under_way = self._loading.get(key)
        entry = self._entries.get(key[0], {}).get(key[1])
        return Listed(*key, entry, under_way[1] if under_way else None)

    def _begin(self, model: str, version: str, operator: str) -> tuple[asyncio.Task[Entry], Loading]:
        loading = Loading()
        load = self._load(model, version, "load", loading, operator)
        task = asyncio.get_running_loop().create_task(load)
        self._loading[model, version] = (task, loading)
        task.add_done_callback(lambda _: self._loading.pop((model, version), None))
        return task, loading

    async def _load(self, name: str, version: str, why: str, loading: Loading, operator: str = "") -> Entry:
        model = await asyncio.to_thread(self._loader.load, name, version, why, loading, operator)
        entry = Entry(model.artifact, self._runner(model))
        versions = {**self._entries.get(name, {}), version: entry}
        self._install(name, dict(sorted(versions.items(), key=lambda item: version_key(item[0]))))
        self._resident(model)
        return entry

    def _install(self, model: str, versions: dict[str, Entry]) -> None:
        entries, newest = dict(self._entries), dict(self._newest)
        if versions:
            entries[model] = versions
            newest[model] = versions[next(reversed(versions))]
        else:
            del entries[model], newest[model]
        self._entries, self._newest = entries, newest
        self._show()

    def _find(self, model: str, version: str) -> Entry:
        entry = self._entries.get(model, {}).get(version) if version else self._newest.get(model)
        if entry is None:
            versions: Iterable[str] | None = self._entries.get(model)
            if versions is None:
                raise errors.model_unknown(model, self._entries)
            raise errors.version_unknown(model, version, versions)
        return entry

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
            model = await asyncio.to_thread(self._loader.ready, entry.artifact, "call", Loading())
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
        await asyncio.to_thread(runner.model.lineup.deactivate)
        self._show()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _show(self) -> None:
        metrics = self._around.metrics
        metrics.loaded_models.set(sum(len(versions) for versions in self._entries.values()))
        metrics.memory_bytes.set(self._residency.used)

"""Which versions are loaded, which of them a call means, and how that changes while calls come in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.repository import (
    Repository,
    RepositoryError,
    UntrustedError,
    version_key,
)
from headrace.repository.records import Records
from services.executor import errors
from services.executor.execution.runner import RunnerContext
from services.executor.lifecycle.activation import LoadHandle
from services.executor.lifecycle.loader import Loader, UncheckedError
from services.executor.lifecycle.quarantine import (
    FailureKind,
    Key,
    Quarantine,
    QuarantinedVersion,
    UnusableError,
)
from services.executor.lifecycle.versions import LoadedVersion, LoadedVersions

# How often it is looked whether something is to be done: a record that another process changed, a version that is mended.
_LOOK_S = 1.0
# A version that was in quarantine before is tried again this soon after the start.
_SOON_S = 5.0
_CHECKS = 4
# What gives its memory back just now would be missing from the growth that is measured; but nobody waits for it for long.
_LEAVING_S = 1.0
# Series of the metric at most.
_SHOWN = 256


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What is known of a version of the repository. `entry` None: it is not loaded; `loading`: it is about to be.

    `problem`: why it is in quarantine, empty if it is not.
    """

    model: str
    version: str
    entry: LoadedVersion | None
    loading: LoadHandle | None
    problem: str = ""


class Models(LoadedVersions):
    """Which versions serve: what served before, what operators ask for; what can't be used is in quarantine."""

    def __init__(
        self,
        loader: Loader,
        records: Records,
        context: RunnerContext,
        budget: int | None,
        patience: float = 30.0,
    ) -> None:
        super().__init__(loader.wake, context, budget)
        self._loader = loader
        self._repository = loader.activator.repository
        self._records = records
        self._patience = patience
        self._quarantine = Quarantine()
        self._loading: dict[Key, tuple[asyncio.Task[LoadedVersion], LoadHandle]] = {}
        # First loads at the same time: each may take a core and much memory, and one that never ends must not hold the others up.
        self._checking = asyncio.Semaphore(_CHECKS)
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Loads what should serve; what can't be used is in quarantine. Raises RepositoryError: none can be read."""
        await asyncio.to_thread(self._records.count_deaths)
        self._order, troubles = await asyncio.to_thread(self._loader.wanted)
        for trouble in troubles:
            await self._hold((trouble.model, ""), UnusableError(trouble, FailureKind.FILES))
        before = await asyncio.to_thread(self._records.quarantined)
        unknown = [key for key in self._wanted() if not await self._opened(key, before)]
        tasks = [self._begin(*key, why="start")[0] for key in unknown]
        if tasks:
            # Whoever needs longer follows while the others serve.
            await asyncio.wait(tasks, timeout=self._patience)
        held = [*self._loading, *(key for key, _ in self._quarantine.all())]
        for stale in before.keys() - {":".join(key) for key in held}:
            await asyncio.to_thread(self._records.release, stale)
        self._watch = asyncio.get_running_loop().create_task(self._watching())

    async def _opened(self, key: Key, before: Mapping[str, Mapping[str, Any]]) -> bool:
        """Loads a version at the start, unless its files have to be checked first; False then."""
        try:
            await self._load(*key, "start", LoadHandle(), may_check=False)
        except UnusableError as error:
            await self._hold(key, error)
        except UncheckedError as error:
            known = before.get(f"{key[0]}:{key[1]}", {})
            if known.get("fingerprint") != error.fingerprint or known.get("kind") != FailureKind.CHECK.name:
                return False
            # These very files were refused before: nobody waits for that once more.
            told = (str(known.get(part)) for part in ("problem", "remedy"))
            refused = UnusableError(RepositoryError(*key, *told), FailureKind.CHECK, error.fingerprint)
            await self._hold(key, refused)
            self._quarantine.sooner(key, time.monotonic() + _SOON_S)
        return True

    def _wanted(self) -> list[Key]:
        return [(model, version) for model, versions in self._order.items() for version in versions]

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for task, loading in list(self._loading.values()):
            loading.cancel()
            task.cancel()
        await super().close()

    async def load(self, model: str, version: str, operator: str = "") -> LoadedVersion:
        """Makes a version (what a label means, or for "" the newest) ready beside those that serve, then takes it in.

        Calls that name no version get it from then on, over restarts, too. Raises Fault (`errors.not_loadable`) saying why
        it can't be loaded.
        """
        try:
            version = await asyncio.to_thread(self._repository.asked, model, version, operator)
        except RepositoryError as error:
            raise errors.not_loadable(model, version, error) from error
        if (entry := self._entries.get(model, {}).get(version)) is None:
            entry = await self._loaded(model, version, operator)
        await self._serve(model, version)
        return entry

    async def _loaded(self, model: str, version: str, operator: str) -> LoadedVersion:
        under_way = self._loading.get((model, version)) or self._begin(model, version, "load", operator)
        try:
            # One caller who goes away must not take the load from the others.
            return await asyncio.shield(under_way[0])
        except UnusableError as error:
            raise errors.not_loadable(model, version, error.origin) from error

    async def _serve(self, model: str, version: str) -> None:
        """The version answers calls that name none."""
        # The record first: a look in between must not undo what it does not know of yet.
        await asyncio.to_thread(self._records.serve, model, version)
        self._order[model] = [*(v for v in self._order.get(model, ()) if v != version), version]
        if model in self._entries:
            self._install(model, self._entries[model])

    async def unload(self, model: str, name: str, operator: str = "") -> list[str]:
        """The versions that went: the one that `name` (a version or a label) means, or for "" all of the model.

        No call finds them any more; those that have, finish; then their memory is given back. A load under way is
        cancelled. Raises Fault NOT_FOUND.
        """
        loading = [v for m, v in self._loading if m == model]
        there = dict.fromkeys([*self._entries.get(model, ()), *loading, *self._quarantine.of(model)])
        if not there:
            raise errors.model_unknown(model, self._entries)
        gone = [name] if name else list(there)
        if name and name not in there:
            with suppress(RepositoryError):
                gone = [await asyncio.to_thread(self._repository.resolve, model, name)]
        if gone[0] not in there:
            raise errors.version_unknown(model, name, self._entries.get(model, {}))
        for version in gone:
            await self._unload(model, version, operator)
        return gone

    async def _unload(self, model: str, version: str, operator: str) -> None:
        if (under_way := self._loading.get((model, version))) is not None:
            under_way[1].cancel()
            await asyncio.wait([under_way[0]])
        await self._release((model, version))
        await asyncio.to_thread(self._records.stop, model, version)
        self._order[model] = [v for v in self._order.get(model, ()) if v != version]
        entries = self._entries.get(model, {})
        if (entry := entries.get(version)) is None:
            return
        self._install(model, {v: e for v, e in entries.items() if v != version})
        self._memory.leave((model, version))
        if entry.runner is not None:
            await self._retire(entry.runner)
        try:
            await asyncio.to_thread(self._repository.unloaded, model, version, operator)
        except RepositoryError:
            # It is gone all the same: what can't be recorded is not done, but this can't be undone.
            self._context.log.exception("unloading was not recorded", model=model, version=version)

    async def index(self) -> list[VersionStatus]:
        """Every version of the repository, and what is loaded though the repository has it no more."""
        repository = self._repository

        def read() -> list[Key]:
            return [(m, v) for m in repository.names() for v in _versions(repository, m)]

        try:
            keys = dict.fromkeys(await asyncio.to_thread(read))
        except RepositoryError as error:
            raise errors.not_loadable("", "", error) from error
        keys |= dict.fromkeys((e.metadata.name, e.metadata.version) for e in self.all())
        keys |= dict.fromkeys(self._loading)
        keys |= dict.fromkeys(key for key, _ in self._quarantine.all())
        return [self._listed(key) for key in keys]

    def _listed(self, key: Key) -> VersionStatus:
        under_way = self._loading.get(key)
        entry = self._entries.get(key[0], {}).get(key[1])
        held = self._quarantine.get(key)
        problem = "" if held is None else f"{held.error.problem}; {held.error.remedy}"
        return VersionStatus(
            *key, entry, under_way[1] if under_way else None, errors.without_folders(problem)
        )

    def _begin(
        self, model: str, version: str, why: str, operator: str = ""
    ) -> tuple[asyncio.Task[LoadedVersion], LoadHandle]:
        """Loads a version beside all else. `why` "load": an operator asked for it; else a failure puts it into quarantine."""
        loading = LoadHandle()
        task = asyncio.get_running_loop().create_task(self._attempt(model, version, why, loading, operator))
        self._loading[model, version] = (task, loading)

        def done(task: asyncio.Task[LoadedVersion]) -> None:
            self._loading.pop((model, version), None)
            if (
                not task.cancelled()
                and (error := task.exception())
                and not isinstance(error, RepositoryError)
            ):
                self._context.log.error(
                    "a load ended by an error", model=model, version=version, exc_info=error
                )

        task.add_done_callback(done)
        return task, loading

    async def _attempt(
        self, model: str, version: str, why: str, loading: LoadHandle, operator: str
    ) -> LoadedVersion:
        if why == "load":
            # It waits for no other version: the operator is waiting, too.
            try:
                return await self._load(model, version, why, loading, operator=operator, asked=True)
            except UnusableError as error:
                if self._quarantine.get((model, version)) is not None:
                    await self._hold((model, version), error)
                raise
        try:
            async with self._checking:
                return await self._load(model, version, "start" if why == "start" else "load", loading)
        except UnusableError as error:
            await self._hold((model, version), error)
            raise

    async def _load(
        self, name: str, version: str, why: str, loading: LoadHandle, **how: Any
    ) -> LoadedVersion:
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=_LEAVING_S)
        model = await asyncio.to_thread(self._loader.load, name, version, why, loading, **how)
        entry = LoadedVersion(model.artifact, self._runner(model))
        versions = {**self._entries.get(name, {}), version: entry}
        self._install(name, dict(sorted(versions.items(), key=lambda item: version_key(item[0]))))
        self._resident(model)
        await self._release((name, version))
        if not how.get("asked") and await asyncio.to_thread(self._loader.chosen, name, version):
            await asyncio.to_thread(self._records.serve, name, version)
        return entry

    async def _hold(self, key: Key, error: UnusableError) -> None:
        """The version should serve and can't."""
        before = self._quarantine.get(key)
        stamp = await asyncio.to_thread(self._repository.stamp, *key)
        self._quarantine.hold(key, error.origin, error.kind, stamp, time.monotonic())
        if before is None or before.error.problem != error.problem:
            log = self._context.log
            log.error(
                "model in quarantine", model=key[0], version=key[1], why=error.problem, remedy=error.remedy
            )
            about = {
                "problem": error.problem,
                "remedy": error.remedy,
                "kind": error.kind.name,
                "fingerprint": error.fingerprint,
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            await asyncio.to_thread(self._records.quarantine, ":".join(key), about)
        self._show_quarantine()

    async def _release(self, key: Key) -> None:
        """The version is well, or nobody wants it any more."""
        if self._quarantine.release(key):
            self._context.log.info("model out of quarantine", model=key[0], version=key[1])
            await asyncio.to_thread(self._records.release, ":".join(key))
            self._show_quarantine()

    async def _watching(self) -> None:
        """Tries again what is in quarantine, writes what could not be written, follows what other processes decided."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
            except Exception:  # whatever it is, the next look must come
                self._context.log.exception("a look at the models failed; the next one follows")

    async def _look(self) -> None:
        with suppress(RepositoryError):
            await asyncio.to_thread(self._loader.save)
        self._context.metrics.unsaved.set(not (self._records.saved and self._loader.recorded))
        await self._follow()
        for key, held in self._quarantine.all():
            if key in self._loading:
                continue
            changed = held.stamp != await asyncio.to_thread(self._repository.stamp, *key)
            if changed or held.due <= time.monotonic():
                await self._again(key, held)

    async def _again(self, key: Key, held: QuarantinedVersion) -> None:
        """Tries a version in quarantine again, or what has taken its place."""
        model, version = key
        wanted = await asyncio.to_thread(self._loader.still_wanted, model, version)
        if wanted != version:
            others = [v for v in self._order.get(model, ()) if v != version]
            self._order[model] = [*others, wanted] if wanted else others
            if wanted:
                self._begin(model, wanted, "again")
            await self._release(key)
            serving = await asyncio.to_thread(self._records.serving)
            if version in serving.get(model, ()):
                await asyncio.to_thread(self._records.stop, model, version)
        elif held.kind is FailureKind.FILES and not await asyncio.to_thread(
            self._loader.readable, model, version
        ):
            # Not loaded: a refusal a second would fill the access log.
            stamp = await asyncio.to_thread(self._repository.stamp, *key)
            self._quarantine.hold(key, held.error, held.kind, stamp, time.monotonic())
        else:
            self._begin(model, version, "again")

    async def _follow(self) -> None:
        """Does what an operator had another process of this home do."""
        serving = await asyncio.to_thread(self._records.news)
        named = await asyncio.to_thread(self._loader.activator.named) if serving else {}
        for model, versions in serving.items():
            mine = self._order.get(model, [])
            for version in [v for v in mine if v not in versions and v not in named.get(model, ())]:
                await self._unload(model, version, "")
            self._order[model] = [*(v for v in self._order.get(model, ()) if v not in versions), *versions]
            if model in self._entries:
                self._install(model, self._entries[model])
            for version in versions:
                key = (model, version)
                there = version in self._entries.get(model, {}) or key in self._loading
                if not there and self._quarantine.get(key) is None:
                    self._begin(*key, "again")

    def _check_expected(self, model: str, version: str) -> None:
        """Raises Fault FAILED_PRECONDITION if the version should be there, and is not."""
        held = self._quarantine.of(model)
        for found in (version, "", *reversed(held)):
            if found in held and (found in (version, "") or not version):
                trusted = not isinstance(held[found].error, UntrustedError)
                raise errors.quarantined(model, found, trusted=trusted)
        for name, loading in self._loading:
            if name == model and loading in self._order.get(model, ()) and version in ("", loading):
                raise errors.preparing(model, loading)

    def _show_quarantine(self) -> None:
        gauge = self._context.metrics.quarantined
        gauge.clear()
        for (model, version), _ in list(self._quarantine.all())[:_SHOWN]:
            gauge.labels(model, version).set(1)


def _versions(repository: Repository, model: str) -> list[str]:
    """Versions of a model; none of one whose list can't be read or believed."""
    try:
        return repository.versions(model)
    except RepositoryError:
        return []

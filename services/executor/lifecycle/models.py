"""The models of the executor: which versions serve, and how that changes while calls arrive."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from headrace.repository import RepositoryError, UntrustedError, version_key
from headrace.repository.records import Records
from services.executor import errors
from services.executor.execution.runner import RunnerContext
from services.executor.lifecycle.activation import LoadHandle
from services.executor.lifecycle.loader import Loader, RefusedError, UncheckedError
from services.executor.lifecycle.quarantine import (
    FailureKind,
    Key,
    Quarantine,
    QuarantinedVersion,
    UnusableError,
)
from services.executor.lifecycle.versions import LoadedVersion, LoadedVersions, VersionStatus

# Seconds between two rounds of maintenance: follow changed records, retry versions in quarantine.
_MAINTAIN_EVERY_S = 1.0
# Seconds from the start to the first retry of a version that was in quarantine before.
_FIRST_RETRY_S = 5.0
# A first load may take a core and much memory; but one that never ends must not block all others.
_PARALLEL_LOADS = 4
# A load waits at most this long (seconds) for retiring versions: memory that they free would falsify the measured growth.
_RETIRING_S = 1.0


class Models(LoadedVersions):
    """Loads the versions that served before and those that operators ask for; puts unusable ones into quarantine.

    `start_s`: seconds that the start waits for first loads.
    """

    def __init__(
        self,
        loader: Loader,
        records: Records,
        context: RunnerContext,
        budget: int | None,
        start_s: float = 30.0,
    ) -> None:
        super().__init__(loader.wake, context, budget)
        self._loader = loader
        self._repository = loader.activator.repository
        self._records = records
        self._start_s = start_s
        self._quarantine = Quarantine()
        self._loading: dict[Key, tuple[asyncio.Task[LoadedVersion], LoadHandle]] = {}
        self._load_slots = asyncio.Semaphore(_PARALLEL_LOADS)
        # One at a time: at the same time they would find each other's use of processors and memory.
        self._start_slots = asyncio.Semaphore(1)
        self._serves = asyncio.Event()  # one version at least
        self._starting: asyncio.Task[None] | None = None
        self._maintenance: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Loads the versions that should serve; in the place of a process that died, returns when the first of them is ready.

        Raises RepositoryError: the repository can't be read.
        """
        hurried = await asyncio.to_thread(self._loader.begin)
        if hurried and not self._bounded:
            self._start_slots = self._load_slots  # what was measured before counts
        self._order, troubles = await asyncio.to_thread(self._loader.versions_to_serve)
        for trouble in troubles:
            await self._put_in_quarantine((trouble.model, ""), UnusableError(trouble, FailureKind.FILES))
        self._starting = asyncio.get_running_loop().create_task(self._load_all())
        one_ready = asyncio.ensure_future(self._serves.wait())
        waited_for = {self._starting, one_ready} if hurried else {self._starting}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        one_ready.cancel()
        if self._starting.done():
            self._starting.result()
        self._maintenance = asyncio.get_running_loop().create_task(self._maintain_forever())

    async def _load_all(self) -> None:
        before = await asyncio.to_thread(self._records.quarantined)
        keys = [(model, version) for model, versions in self._order.items() for version in versions]
        started = [self._start_load(*key, why="start") for key in keys]
        for _, loading in started:
            await loading.examined.wait()
        if checked := [task for task, _ in started if not task.done()]:
            # Loads that need longer continue while the others serve.
            await asyncio.wait(checked, timeout=self._start_s)
        held = [*self._loading, *(key for key, _ in self._quarantine.all())]
        for stale in before.keys() - {":".join(key) for key in held}:
            await asyncio.to_thread(self._records.release, stale)

    async def settled(self) -> None:
        """Returns once each version that releases name serves or is in quarantine."""
        await self._follow_releases()
        while loading := [task for task, _ in self._loading.values()]:
            await asyncio.wait(loading)
            await self._follow_releases()

    async def close(self) -> None:
        for background in (self._starting, self._maintenance):
            if background is not None:
                background.cancel()
        for task, loading in list(self._loading.values()):
            loading.cancel()
            task.cancel()
        await super().close()
        await asyncio.to_thread(self._loader.end)

    async def load(self, model: str, version: str, operator: str = "") -> LoadedVersion:
        """Loads a version while others serve. `version` may be a label; "": the newest.

        Calls that name no version use it from then on, also after restarts. Raises Fault (`errors.not_loadable`), which
        says why it can't be loaded.
        """
        try:
            version = await asyncio.to_thread(self._repository.asked, model, version, operator)
        except RepositoryError as error:
            raise errors.not_loadable(model, version, error) from error
        if (entry := self._entries.get(model, {}).get(version)) is None:
            entry = await self._load_for_operator(model, version, operator)
        await self._serve(model, version)
        return entry

    async def _load_for_operator(self, model: str, version: str, operator: str) -> LoadedVersion:
        under_way = self._loading.get((model, version)) or self._start_load(model, version, "load", operator)
        try:
            # If one caller is cancelled, the load must continue for the others.
            return await asyncio.shield(under_way[0])
        except UnusableError as error:
            raise errors.not_loadable(model, version, error.origin) from error

    async def _serve(self, model: str, version: str) -> None:
        # The record first: maintenance may run in between, and must not undo a change that is not recorded.
        await asyncio.to_thread(self._records.serve, model, version)
        self._order[model] = [*(v for v in self._order.get(model, ()) if v != version), version]
        if model in self._entries:
            self._install(model, self._entries[model])

    async def unload(self, model: str, name: str, operator: str = "") -> list[str]:
        """Unloads the version `name` (or its label), or all versions of the model for ""; returns them.

        No new call finds them; running calls finish; then their memory is given back. A load in progress is cancelled.
        Raises Fault NOT_FOUND.
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
            if pipelines := self._loader.released.by(model, version):
                raise errors.released(model, version, pipelines)
        for version in gone:
            await self._unload(model, version, operator)
        return gone

    async def _unload(self, model: str, version: str, operator: str) -> None:
        if (under_way := self._loading.get((model, version))) is not None:
            under_way[1].cancel()
            await asyncio.wait([under_way[0]])
        await self._end_quarantine((model, version))
        await asyncio.to_thread(self._records.stop, model, version)
        self._order[model] = [v for v in self._order.get(model, ()) if v != version]
        entries = self._entries.get(model, {})
        if (entry := entries.get(version)) is None:
            return
        self._install(model, {v: e for v, e in entries.items() if v != version})
        self._memory.remove((model, version))
        if entry.runner is not None:
            await self._retire(entry.runner)
        try:
            await asyncio.to_thread(self._repository.unloaded, model, version, operator)
        except RepositoryError:
            # An unrecorded change should not happen, but an unload can't be undone.
            self._context.log.exception("unloading was not recorded", model=model, version=version)

    async def index(self) -> list[VersionStatus]:
        """Every version in the repository, and loaded ones that the repository no longer has. Raises Fault."""
        try:
            keys = dict.fromkeys(await asyncio.to_thread(self._loader.all_versions))
        except RepositoryError as error:
            raise errors.not_loadable("", "", error) from error
        keys |= dict.fromkeys((e.metadata.name, e.metadata.version) for e in self.all())
        keys |= dict.fromkeys(self._loading)
        keys |= dict.fromkeys(key for key, _ in self._quarantine.all())
        return [self._status(key) for key in keys]

    def _status(self, key: Key) -> VersionStatus:
        under_way = self._loading.get(key)
        entry = self._entries.get(key[0], {}).get(key[1])
        held = self._quarantine.get(key)
        problem = "" if held is None else f"{held.error.problem}; {held.error.remedy}"
        return VersionStatus(
            *key, entry, under_way[1] if under_way else None, errors.without_folders(problem)
        )

    def _start_load(
        self, model: str, version: str, why: str, operator: str = ""
    ) -> tuple[asyncio.Task[LoadedVersion], LoadHandle]:
        """Starts a load. `why`: "load" if an operator asked for it; otherwise a failure puts it into quarantine."""
        loading = LoadHandle()
        task = asyncio.get_running_loop().create_task(self._attempt(model, version, why, loading, operator))
        self._loading[model, version] = (task, loading)

        def done(task: asyncio.Task[LoadedVersion]) -> None:
            self._loading.pop((model, version), None)
            loading.examined.set()
            error = None if task.cancelled() else task.exception()
            if error and not isinstance(error, RepositoryError):
                self._context.log.error(
                    "a load ended by an error", model=model, version=version, exc_info=error
                )

        task.add_done_callback(done)
        return task, loading

    async def _attempt(
        self, model: str, version: str, why: str, loading: LoadHandle, operator: str
    ) -> LoadedVersion:
        if why == "load":
            # Without a slot: it does not wait for other versions, because the operator waits for it.
            try:
                return await self._load(model, version, why, loading, operator=operator, asked=True)
            except UnusableError as error:
                if self._quarantine.get((model, version)) is not None:
                    await self._put_in_quarantine((model, version), error)
                raise
        try:
            if why == "start" and (entry := await self._load_known(model, version, loading)):
                return entry
            async with self._load_slots:
                return await self._load(model, version, "start" if why == "start" else "load", loading)
        except UnusableError as error:
            await self._put_in_quarantine((model, version), error)
            if isinstance(error, RefusedError):
                self._quarantine.sooner((model, version), time.monotonic() + _FIRST_RETRY_S)
            raise

    async def _load_known(self, model: str, version: str, loading: LoadHandle) -> LoadedVersion | None:
        """Loads a version at the start; None: its files must be checked first. Raises RefusedError as the loader does."""
        try:
            async with self._start_slots:
                return await self._load(model, version, "start", loading, may_check=False)
        except UncheckedError:
            loading.examined.set()
            return None

    async def _load(
        self, name: str, version: str, why: str, loading: LoadHandle, **how: Any
    ) -> LoadedVersion:
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=_RETIRING_S)
        model = await asyncio.to_thread(self._loader.load, name, version, why, loading, **how)
        entry = LoadedVersion(model.artifact, self._runner(model))
        versions = {**self._entries.get(name, {}), version: entry}
        self._install(name, dict(sorted(versions.items(), key=lambda item: version_key(item[0]))))
        self._add_to_memory(model)
        await self._end_quarantine((name, version))
        self._serves.set()
        if not how.get("asked") and await asyncio.to_thread(self._loader.is_own_choice, name, version):
            await asyncio.to_thread(self._records.serve, name, version)
        return entry

    async def _put_in_quarantine(self, key: Key, error: UnusableError) -> None:
        """Puts a version that should serve, and can't, into quarantine."""
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
        self._quarantine.show(self._context.metrics.quarantined)

    async def _end_quarantine(self, key: Key) -> None:
        """Takes a version out of quarantine: it was loaded, or it should not serve any more."""
        if self._quarantine.release(key):
            self._context.log.info("model out of quarantine", model=key[0], version=key[1])
            self._quarantine.show(self._context.metrics.quarantined)
            await asyncio.to_thread(self._records.release, ":".join(key))

    async def _maintain_forever(self) -> None:
        """Retries versions in quarantine, writes records that could not be written, follows changes of other processes."""
        while True:
            await self._loader.released.wait(_MAINTAIN_EVERY_S)
            try:
                await self._maintain()
            except Exception:  # whatever fails, the next round must come
                self._context.log.exception("maintenance of the models failed; the next round follows")

    async def _maintain(self) -> None:
        with suppress(RepositoryError):
            await asyncio.to_thread(self._loader.save)
        self._context.metrics.unsaved.set(not (self._records.saved and self._loader.recorded))
        await self._follow_records()
        await self._follow_releases()
        for key, held in self._quarantine.all():
            if key in self._loading:
                continue
            changed = held.stamp != await asyncio.to_thread(self._repository.stamp, *key)
            if changed or held.due <= time.monotonic():
                await self._retry(key, held)

    async def _retry(self, key: Key, held: QuarantinedVersion) -> None:
        """Retries a version in quarantine, or the one that replaces it."""
        model, version = key
        wanted = await asyncio.to_thread(self._loader.version_to_retry, model, version)
        if wanted != version:
            others = [v for v in self._order.get(model, ()) if v != version]
            self._order[model] = [*others, wanted] if wanted else others
            if wanted:
                self._start_load(model, wanted, "again")
            await self._end_quarantine(key)
            serving = await asyncio.to_thread(self._records.serving)
            if version in serving.get(model, ()):
                await asyncio.to_thread(self._records.stop, model, version)
        elif held.kind is FailureKind.FILES and not await asyncio.to_thread(
            self._loader.readable, model, version
        ):
            # Not a full load: one refusal a second would fill the access log.
            stamp = await asyncio.to_thread(self._repository.stamp, *key)
            self._quarantine.hold(key, held.error, held.kind, stamp, time.monotonic())
        else:
            self._start_load(model, version, "again")

    async def _follow_records(self) -> None:
        """Loads and unloads what an operator has changed through another process of this installation."""
        serving = await asyncio.to_thread(self._records.news)
        released = self._loader.released.versions
        for model, versions in serving.items():
            mine = self._order.get(model, [])
            for version in [v for v in mine if v not in versions and v not in released.get(model, ())]:
                await self._unload(model, version, "")
            self._order[model] = [*(v for v in self._order.get(model, ()) if v not in versions), *versions]
            if model in self._entries:
                self._install(model, self._entries[model])
            for version in versions:
                key = (model, version)
                there = version in self._entries.get(model, {}) or key in self._loading
                if not there and self._quarantine.get(key) is None:
                    self._start_load(*key, "again")

    async def _follow_releases(self) -> None:
        """Loads the versions that releases name, and unloads those that none names any more and no operator wants."""
        released = self._loader.released
        before = released.versions
        wanted = await asyncio.to_thread(released.look)
        released.tell(self._context.log)
        for model, versions in wanted.items():
            for version in versions:
                held = version in self._entries.get(model, {}) or (model, version) in self._loading
                if not held and self._quarantine.get((model, version)) is None:
                    # First in the order: a call that names no version goes on with what it got.
                    others = [v for v in self._order.get(model, ()) if v != version]
                    self._order[model] = [version, *others]
                    self._start_load(model, version, "again")
        gone = [(m, v) for m, versions in before.items() for v in versions if v not in wanted.get(m, ())]
        serving = await asyncio.to_thread(self._records.serving) if gone else {}
        for model, version in gone:
            if version not in serving.get(model, ()):
                await self._unload(model, version, "")

    def _check_unavailable(self, model: str, version: str) -> None:
        """Raises Fault: FAILED_PRECONDITION if the version is in quarantine, UNAVAILABLE if it is still being loaded."""
        held = self._quarantine.of(model)
        for found in (version, "", *reversed(held)):
            if found in held and (found in (version, "") or not version):
                trusted = not isinstance(held[found].error, UntrustedError)
                raise errors.quarantined(model, found, trusted=trusted)
        for name, loading in self._loading:
            if name == model and loading in self._order.get(model, ()) and version in ("", loading):
                raise errors.loading(model, loading)

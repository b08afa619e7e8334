"""Loads versions: reads and verifies the files, checks unknown ones in a process of their own, activates them."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.repository import Artifact, RepositoryError
from headrace.repository import bounded_process as bounded
from headrace.repository.records import Checked, Records
from services.executor.check import checkable, fingerprint
from services.executor.config import ExecutorConfig
from services.executor.execution.model import Model
from services.executor.lifecycle.activation import Activator, LoadHandle
from services.executor.lifecycle.memory import held_bytes
from services.executor.lifecycle.quarantine import FailureKind, UnusableError
from services.executor.lifecycle.released import ReleasedVersions

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# Files are only refused after this many processes of the executor have ended while they loaded them: a process can be killed
# for another reason at that moment.
_DEATHS = 3
# The check's process may take this long to start (seconds).
_STARTING_S = 60.0


class UncheckedError(Exception):
    """The files of a version are unknown: they must be checked before they are loaded."""


class RefusedError(UnusableError):
    """An earlier check refused these files: the start does not wait for another one."""


class Loader:
    """Loads versions. Its methods block: call them on threads. They raise RepositoryError."""

    def __init__(
        self,
        activator: Activator,
        records: Records,
        config: ExecutorConfig,
        log: FilteringBoundLogger,
        released: ReleasedVersions,
    ) -> None:
        self.activator = activator
        self.released = released
        self._records = records
        self._config = config
        self._log = log
        # Versions that serve although their load could not be written to the access log.
        self._unrecorded: list[Artifact] = []
        self._hurried = False  # callers wait: what was measured at an earlier start is not measured again

    @property
    def recorded(self) -> bool:
        """Whether all loads are in the access log."""
        return not self._unrecorded

    def begin(self) -> bool:
        """Before the first load. Returns whether this process takes the place of one that died: then callers wait for it."""
        self._records.count_deaths()
        self._hurried = self._records.begin()
        return self._hurried

    def end(self) -> None:
        """This process serves no longer."""
        self._records.end()

    def all_versions(self) -> list[tuple[str, str]]:
        """Models and versions in the repository, without models whose list can't be read. Raises RepositoryError."""
        repository = self.activator.repository
        found = []
        for model in repository.names():
            with suppress(RepositoryError):
                found += [(model, version) for version in repository.versions(model)]
        return found

    def versions_to_serve(self) -> tuple[dict[str, list[str]], list[RepositoryError]]:
        """Model → the versions to load at the start; and the problems of models for which no version is found.

        These are the versions that releases name and those that served last; with `load: all`, for a new model, the newest.
        Calls that name no version use the last of a model's versions. Raises RepositoryError: the repository can't be read.
        """
        self._records.news()  # later changes are news
        repository, serving, released = (
            self.activator.repository,
            self._records.serving(),
            self.released.look(),
        )
        wanted: dict[str, list[str]] = {}
        troubles = []
        loads_all = self._config.load == "all"
        names = repository.names() if loads_all else serving
        for name in dict.fromkeys([*names, *released]):
            try:
                there = repository.versions(name)
            except RepositoryError as error:
                there = [*serving.get(name, ()), *released.get(name, ())]
                # One that an operator has unloaded stays unloaded.
                if not there and serving.get(name) != []:
                    troubles.append(error)
            else:
                self._forget_removed(name, serving.get(name, []), there)
            kept = [v for v in serving.get(name, ()) if v in there]
            first = [v for v in released.get(name, ()) if v not in kept]
            # All versions that served may be removed; but a model that an operator has unloaded stays unloaded.
            new = loads_all and not kept and serving.get(name) != []
            wanted[name] = [*first, *kept] or (there[-1:] if new else [])
        return wanted, troubles

    def _forget_removed(self, name: str, served: list[str], there: list[str]) -> None:
        """Deletes the records of serving versions that were removed from the repository."""
        removed = [v for v in served if v not in there]
        if removed and len(removed) == len(served):
            self._records.forget(name)
        else:
            for version in removed:
                self._records.stop(name, version)

    def load(
        self,
        name: str,
        version: str,
        why: str,
        loading: LoadHandle,
        *,
        operator: str = "",
        asked: bool = False,
        may_check: bool = True,
    ) -> Model:
        """The version, ready to run. `asked`: an operator wants it, whatever an earlier load found.

        Raises UnusableError, which says what failed; then nothing stays active. Raises UncheckedError if its files are
        unknown and `may_check` is false, RefusedError if an earlier check refused them.
        """
        with self._contained(name, version):
            _check_cancelled(name, version, loading)
            loading.tell("reading")
            try:
                artifact = self.activator.repository.examine(name, version, operator=operator)
            except RepositoryError as error:
                raise _unusable(error, FailureKind.FILES) from error
            mark = fingerprint(artifact, self._config.settings_of(name))
            known = self._check_if_unknown(artifact, mark, asked, may_check, loading)
            self._record(artifact, operator, must=asked)
            # Of the number of processors that this process may use, too: threads depend on it.
            key = f"{mark}-{len(os.sched_getaffinity(0))}"
            measured = self._records.measured(key) if self._hurried and why == "start" else ()
            before = held_bytes() - sum(map(len, (artifact.content, *artifact.files.values())))
            try:
                with self._records.loading(mark):
                    model = self.activator.activate(artifact, why, loading, measured)
            except RepositoryError as error:
                raise UnusableError(error, FailureKind.ACTIVATION, mark) from error
            grown = max(held_bytes() - before, 0)
            self._record_measured(key, why, loading)
            if known.deaths:
                self._records.note(mark, replace(known, deaths=0))
            # The check's process measured this model only; the growth of this process contains everything else that happened.
            return replace(model, measured=known.memory_bytes or grown)

    @contextmanager
    def _contained(self, name: str, version: str) -> Iterator[None]:
        """A bug, here or in an engine, must stop this model only."""
        try:
            yield
        except (RepositoryError, UncheckedError):
            raise
        except Exception as error:
            self._log.exception("a model can't be loaded", model=name, version=version)
            problem = f"loading it failed in a way that nobody expected ({type(error).__name__}; see the log)"
            found = RepositoryError(name, version, problem, "publish it anew")
            raise UnusableError(found, FailureKind.ACTIVATION) from error

    def _record_measured(self, key: str, why: str, loading: LoadHandle) -> None:
        """Records what was measured: by a start that loads one model after the other, or else if nothing is known."""
        better = not self._hurried if why == "start" else not self._records.measured(key)
        if better and all(member.active for member in loading.members):
            self._records.measure(key, [member.measured for member in loading.members])

    def wake(self, artifact: Artifact) -> Model:
        """A sleeping version, ready to run again."""
        model = self.activator.activate(artifact, "call", LoadHandle())
        mark = fingerprint(artifact, self._config.settings_of(artifact.metadata.name))
        return replace(model, measured=self._records.checked(mark).memory_bytes)

    def is_own_choice(self, name: str, version: str) -> bool:
        """Whether this service itself chose the version: the newest of a new model."""
        return version not in self.released.versions.get(name, ()) and name not in self._records.serving()

    def version_to_retry(self, name: str, version: str) -> str:
        """The version to load instead of one in quarantine: usually itself. Empty: it is no longer in the repository."""
        served = self._records.serving().get(name)
        if version in self.released.versions.get(name, ()):
            return version
        try:
            there = self.activator.repository.quiet().versions(name)
        except RepositoryError:
            return version
        if served is None or not version:
            # It has never served: a newer version may replace it.
            return there[-1] if there else ""
        return version if version in there else ""

    def readable(self, name: str, version: str) -> bool:
        """Whether the files can be read and are trusted now. Writes no record."""
        try:
            self.activator.repository.quiet().read(name, version)
        except RepositoryError:
            return False
        return True

    def save(self) -> None:
        """Writes the records that could not be written before, for example because the disk was full."""
        self._records.save()
        while self._unrecorded:
            self.activator.repository.loaded(self._unrecorded[0])
            self._unrecorded.pop(0)

    def _check_if_unknown(
        self, artifact: Artifact, mark: str, asked: bool, may_check: bool, loading: LoadHandle
    ) -> Checked:
        """What is known of the files; checks them now if nothing is. Raises as `load`."""
        about, known = artifact.metadata, self._records.checked(mark)
        if known.deaths >= _DEATHS and not asked:
            problem = f"{known.deaths} processes of the executor ended while they loaded it"
            remedy = "publish a mended version; to try this one again: headrace models load"
            error = RepositoryError(about.name, about.version, problem, remedy)
            raise UnusableError(error, FailureKind.CRASH, mark)
        able = checkable(artifact, self._config.settings_of(about.name))
        if known.good or not able or self._config.state is None:
            return known
        if not may_check:
            refused = self._records.quarantined().get(f"{about.name}:{about.version}", {})
            if refused.get("fingerprint") == mark and refused.get("kind") == FailureKind.CHECK.name:
                texts = (str(refused.get(part)) for part in ("problem", "remedy"))
                error = RepositoryError(about.name, about.version, *texts)
                raise RefusedError(error, FailureKind.CHECK, mark)
            raise UncheckedError
        loading.tell("checking it in a process of its own")
        verdict = self._run_check(about.name, about.version, loading)
        if verdict is None:
            return known
        if verdict["problem"]:
            error = RepositoryError(about.name, about.version, verdict["problem"], verdict["remedy"])
            raise UnusableError(error, FailureKind.CHECK, mark)
        if verdict["fingerprint"] != mark:
            problem, remedy = "its files changed while it was checked", "it is tried again"
            raise UnusableError(
                RepositoryError(about.name, about.version, problem, remedy), FailureKind.FILES
            )
        return self._records.checked(mark)

    def _run_check(self, name: str, version: str, loading: LoadHandle) -> dict[str, Any] | None:
        """The verdict of the process that loads the files first; None if that process could not start."""
        config, began = self._config, time.monotonic()

        def started(end: Callable[[], None]) -> None:
            loading.end_check = end
            if loading.cancelled:
                end()

        try:
            with tempfile.TemporaryDirectory(prefix="headrace-check-") as folder:
                file = Path(folder) / "executor.yaml"
                # Every JSON document is valid YAML.
                file.write_text(config.model_dump_json(exclude_unset=True))
                file.chmod(0o600)
                command = ["-m", "services.executor.check", "--config", str(file), f"{name}:{version}"]
                ended = bounded.run(command, seconds=config.check.seconds + _STARTING_S, started=started)
            verdict: dict[str, Any] = json.loads(ended.output or b"{}") or _verdict_of_end(ended)
        except (OSError, ValueError) as error:
            self._log.error(
                "a model can't be checked before it is loaded", model=name, version=version, why=str(error)
            )
            return None
        finally:
            _check_cancelled(name, version, loading)
        seconds = round(time.monotonic() - began, 3)
        self._log.info(
            "model checked", model=name, version=version, seconds=seconds, problem=verdict["problem"] or None
        )
        return verdict

    def _record(self, artifact: Artifact, operator: str, *, must: bool) -> None:
        try:
            self.activator.repository.loaded(artifact, operator)
        except RepositoryError as error:
            if must:
                raise UnusableError(error, FailureKind.FILES) from error
            about = artifact.metadata
            self._log.error(
                "a load was not recorded; tried again",
                model=about.name,
                version=about.version,
                why=error.problem,
            )
            self._unrecorded.append(artifact)


def _verdict_of_end(ended: bounded.Ended) -> dict[str, Any]:
    """The verdict if the check's process was ended. Raises ValueError: it could not start."""
    if ended.code is not None and ended.code >= 0:
        raise ValueError((ended.error.strip().splitlines() or ["it said nothing"])[-1])
    how = "took too long" if ended.code is None else f"was ended ({bounded.killed_by(ended.code)})"
    return {"problem": f"the process that checks it {how}", "remedy": "give the machine more memory or time"}


def _check_cancelled(name: str, version: str, loading: LoadHandle) -> None:
    """Raises UnusableError if the load was cancelled."""
    if loading.cancelled:
        error = RepositoryError(
            name, version, "its load was cancelled", "load it again if that was a mistake"
        )
        raise UnusableError(error, FailureKind.ACTIVATION)


def _unusable(error: RepositoryError, kind: FailureKind) -> UnusableError:
    return error if isinstance(error, UnusableError) else UnusableError(error, kind)

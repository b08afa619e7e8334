"""The pipelines that releases name, ready to serve: each arm's document with its models pinned.

The same face as `headrace.pipeline.Catalog`, which reads a folder of documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from headrace.pipeline import (
    DocumentError,
    Pipeline,
    Problem,
    Quarantined,
    Reload,
    SettingError,
    content_hash,
    kind_of,
    parse,
)
from headrace.pipeline.problems import suggestion
from headrace.releases.document import Arm, Release
from headrace.releases.errors import ReleaseError
from headrace.releases.files import FileReleases
from headrace.releases.inputs import check_inputs
from headrace.releases.spans import LIVE
from headrace.releases.store import Broken, ReleaseStore


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """What serves of one pipeline: the document of each arm. Compared by identity.

    `release` None: there is no release store, and the document itself is what serves, as the arm `live`.
    """

    arms: Mapping[str, Pipeline]
    release: Release | None = None

    @classmethod
    def of(cls, pipeline: Pipeline) -> Released:
        """A document that serves without a release."""
        return cls({LIVE: pipeline})

    @property
    def live(self) -> Pipeline:
        """The document that requests are checked against."""
        return self.arms[LIVE]

    @property
    def number(self) -> int:
        """Number of the release; 0: none."""
        return self.release.number if self.release else 0


def released(release: Release, document: Callable[[str], str | None]) -> Released:
    """The pipelines of a release. `document`: revision → text.

    Raises ReleaseError: a document is missing, altered or broken, or an arm pins what its stages do not have. Whether rules and
    keys fit the inputs, `inputs.check_inputs` says.
    """
    arms: dict[str, Pipeline] = {}
    for name, arm in release.arms.items():
        key = f"arms.{name}"
        text = document(arm.revision)
        if text is None:
            raise ReleaseError(release.pipeline, [f"{key}.revision: its document is not stored"])
        try:
            pipeline = parse(text, f"{release.pipeline}@{arm.revision[:12]}")
        except DocumentError as error:
            raise ReleaseError(release.pipeline, [f"{key}: {p}" for p in error.problems]) from None
        if (pipeline.name, pipeline.revision) != (release.pipeline, arm.revision):
            raise ReleaseError(release.pipeline, [f"{key}.revision: the stored document is another one"])
        arms[name] = pinned(pipeline, arm, key)
    return Released(MappingProxyType(arms), release)


def pinned(pipeline: Pipeline, arm: Arm, key: str) -> Pipeline:
    """The pipeline with the models' versions and the settings of an arm. Raises ReleaseError naming the key below `key`."""
    names = {stage.name for stage in pipeline.stages}
    for name in arm.settings:
        if name not in names:
            problem = f"{key}.settings.{name}: there is no such stage{suggestion(name, names)}"
            raise ReleaseError(pipeline.name, [problem])
    stages = []
    for stage in pipeline.stages:
        try:
            stages.append(kind_of(stage).pinned(stage, arm.models, arm.settings.get(stage.name, {})))
        except SettingError as error:
            raise ReleaseError(
                pipeline.name, [f"{key}.settings.{stage.name}.{error.setting}: {error}"]
            ) from None
    return replace(pipeline, stages=tuple(stages))


class ReleaseCatalog:
    """Reads the store when it is made, and again at each `reload`. Raises nothing: what is broken is in `quarantined`.

    Of each pipeline the newest release serves. If it is damaged, its copy does, or what served last; without either, nothing.
    If the store can't be reached, what served goes on. `mirror`: a folder for copies of what served last, for starts. Processes
    of one machine may share it. `accept` may refuse a pipeline by raising DocumentError.
    """

    def __init__(
        self,
        store: ReleaseStore,
        *,
        accept: Callable[[Pipeline], None] = lambda _: None,
        mirror: FileReleases | None = None,
    ) -> None:
        self._store = store
        self._accept = accept
        self._mirror = mirror
        # State of the store at the last look; None: it was never read.
        self._seen: str | None = None
        # Problems of the store as a whole.
        self.troubles: tuple[Problem, ...] = ()
        self.released: Mapping[str, Released] = MappingProxyType({})
        self.quarantined: Mapping[str, Quarantined] = MappingProxyType({})
        self.first = self._first()

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The document of each pipeline's live arm."""
        return {name: found.live for name, found in self.released.items()}

    @property
    def unusable(self) -> frozenset[str]:
        """Names of pipelines that have a release but none that can be used."""
        return frozenset(name for name, q in self.quarantined.items() if q.serves is None)

    def wait(self, seen: str, timeout_s: float) -> str:
        """Blocks until the store changed, or for `timeout_s`; see `ReleaseStore.wait`. Raises OSError."""
        return self._store.wait(seen, timeout_s)

    def close(self) -> None:
        """Ends a `wait` in progress."""
        self._store.close()

    def _first(self) -> Reload:
        found = self.reload()
        if not self.troubles or self._mirror is None:
            return found
        troubles, store, mirror = self.troubles, self._store, self._mirror
        try:
            self._store, self._mirror, self._seen = mirror, None, None
            found = self.reload()
        finally:
            self._store, self._mirror, self._seen = store, mirror, None
        self.troubles = troubles
        return replace(found, problems=(*troubles, *found.problems))

    def reload(self) -> Reload:
        """Reads what changed. A problem is reported once while it stays the same."""
        before, quarantined_before, troubles_before = self.released, self.quarantined, self.troubles
        try:
            seen = self._store.wait(self._seen or "", 0)
            if seen == self._seen and not (self.troubles or self.quarantined):
                return Reload()
            after, quarantined = self._read()
            self._seen, self.troubles = seen, ()
        except OSError as error:
            problem = f"can't be reached: {error.strerror or type(error).__name__}"
            self.troubles = (Problem("releases", 1, "(store)", problem),)
            new = tuple(p for p in self.troubles if p not in troubles_before)
            return Reload(problems=new)
        if self._mirror is not None:
            for name in before.keys() - after.keys() - quarantined.keys():
                self._mirror.remove(name)
        self.released, self.quarantined = MappingProxyType(after), MappingProxyType(quarantined)
        known = {p for q in quarantined_before.values() for p in q.problems} | {*troubles_before}
        return Reload(
            tuple(n for n, found in after.items() if before.get(n) is not found),
            tuple(n for n in before if n not in after),
            tuple(p for q in quarantined.values() for p in q.problems if p not in known),
            tuple(n for n in quarantined_before if n not in quarantined),
        )

    def _read(self) -> tuple[dict[str, Released], dict[str, Quarantined]]:
        after: dict[str, Released] = {}
        quarantined: dict[str, Quarantined] = {}
        for name in self._store.pipelines():
            found, broken = self._newest(name)
            if found is not None:
                after[name] = found
            if broken is not None:
                file = f"releases/{name}/{broken.number}"
                problem = Problem(file, 1, "(release)", broken.problem)
                quarantined[name] = Quarantined(name, (problem,), found.live if found else None)
        return after, quarantined

    def _newest(self, name: str) -> tuple[Released | None, Broken | None]:
        """The newest release, else what may serve in its place; and what is wrong with the newest one."""
        readable, broken = self._store.current(name)
        newest = readable if broken is None else None
        old = self.released.get(name)
        if newest is not None:
            if old is not None and old.release == newest and name not in self.quarantined:
                return old, None
            try:
                found = self._usable(newest, self._store.document)
            except (ReleaseError, DocumentError) as error:
                broken = Broken(name, newest.number, "; ".join(map(str, error.problems)))
            else:
                self._copy(newest)
                return found, None
        for candidate in self._candidates(name, newest):
            if old is not None and old.release == candidate:
                return old, broken
            with suppress(ReleaseError, DocumentError):
                return self._usable(candidate, self._intact_document), broken
        return None, broken

    def _usable(self, release: Release, document: Callable[[str, str], str | None]) -> Released:
        """Raises ReleaseError, DocumentError."""
        found = released(release, partial(document, release.pipeline))
        check_inputs(release, found.arms)
        for pipeline in found.arms.values():
            self._accept(pipeline)
        return found

    def _candidates(self, name: str, newest: Release | None) -> Iterator[Release]:
        """The releases to try in place of the newest one. `newest` None: it can't be read. If it or a document of it is damaged:
        its copy, or what served last, but no other one, which may have been left for a reason."""
        if newest is not None:
            yield newest
        copy = self._mirror.current(name)[0] if self._mirror is not None else None
        old = self.released.get(name)
        last = [release for release in (copy, old.release if old else None) if release is not None]
        yield from sorted(last, key=lambda release: release.number, reverse=True)
        if newest is not None and all(self._intact_document(name, r) for r in newest.revisions()):
            # It is whole, and this reader refuses it.
            yield from (r for r in self._store.history(name) if r.number < newest.number)

    def _intact_document(self, name: str, revision: str) -> str | None:
        """The text that has this hash, of the store or the copy."""
        for place in (self._store, self._mirror):
            text = place.document(name, revision) if place is not None else None
            if text is not None and content_hash(text) == revision:
                return text
        return None

    def _copy(self, release: Release) -> None:
        """Keeps a copy of what serves. If it can't be written, the next change tries again."""
        if self._mirror is None:
            return
        with suppress(OSError):
            for revision in release.revisions():
                text = self._store.document(release.pipeline, revision)
                if text is not None and self._mirror.document(release.pipeline, revision) != text:
                    self._mirror.keep_document(release.pipeline, revision, text)
            self._mirror.put(release)

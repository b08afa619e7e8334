"""The pipelines that releases name, ready to serve: each arm's document with its models pinned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import MappingProxyType

from headrace.pipeline import (
    DocumentError,
    Pipeline,
    Problem,
    SettingError,
    kind_of,
    parse,
)
from headrace.pipeline.problems import suggestion
from headrace.releases.document import Arm, Release
from headrace.releases.errors import ReleaseError
from headrace.releases.inputs import check_inputs
from headrace.releases.spans import LIVE
from headrace.releases.store import Broken, ReleaseReader


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """What serves of one pipeline: the document of each arm. Compared by identity."""

    arms: Mapping[str, Pipeline]
    release: Release

    @property
    def live(self) -> Pipeline:
        """The document that requests are checked against."""
        return self.arms[LIVE]

    @property
    def number(self) -> int:
        """Number of the release."""
        return self.release.number


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A release that can't be served.

    `name`: of its pipeline. `serves`: the last good document, which goes on serving; None: there is none, so the pipeline can't
    be used.
    """

    name: str
    problems: tuple[Problem, ...]
    serves: Pipeline | None


@dataclass(frozen=True, slots=True)
class Reload:
    """What one reload changed. `problems`: the new ones. `cleared`: names of pipelines that left quarantine."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    cleared: tuple[str, ...] = ()


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
            pipeline = _parsed(text, f"{release.pipeline}@{arm.revision[:12]}")
        except DocumentError as error:
            raise ReleaseError(release.pipeline, [f"{key}: {p}" for p in error.problems]) from None
        if (pipeline.name, pipeline.revision) != (release.pipeline, arm.revision):
            raise ReleaseError(release.pipeline, [f"{key}.revision: the stored document is another one"])
        arms[name] = pinned(pipeline, arm, key)
    return Released(MappingProxyType(arms), release)


# A release is tried before it is taken over, and most name the documents of the one before.
_parsed = lru_cache(maxsize=256)(parse)


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

    Of each pipeline the newest release serves; if it can't be used, what this object served of it, else nothing. If the store
    can't be reached, what served goes on. `accept` may refuse a pipeline by raising DocumentError. `refused`: why a newer
    release of a pipeline is not the one that the store has; "": there is none.
    """

    def __init__(
        self,
        store: ReleaseReader,
        *,
        accept: Callable[[Pipeline], None] = lambda _: None,
        refused: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._store = store
        self._refused = refused
        self._accept = accept
        # State of the store at the last look; None: it was never read.
        self._seen: str | None = None
        # Problems of the store as a whole.
        self.troubles: tuple[Problem, ...] = ()
        self.released: Mapping[str, Released] = MappingProxyType({})
        self.quarantined: Mapping[str, Quarantined] = MappingProxyType({})
        self.first = self.reload()

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The document of each pipeline's live arm."""
        return {name: found.live for name, found in self.released.items()}

    @property
    def unusable(self) -> frozenset[str]:
        """Names of pipelines that have a release but none that can be used."""
        return frozenset(name for name, q in self.quarantined.items() if q.serves is None)

    def wait(self, seen: str, timeout_s: float) -> str:
        """Blocks until the store changed, or for `timeout_s`; see `ReleaseReader.wait`. Raises OSError."""
        return self._store.wait(seen, timeout_s)

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
        """The newest release, else what served; and what is wrong with the newest one."""
        release, broken = self._store.current(name)
        served = self.released.get(name)
        # An older one may have been left for a reason, so it never serves in place of one that can't be read.
        if release is None or broken is not None:
            return served, broken
        refused = self._refused(name)
        newer = Broken(name, release.number, refused) if refused else None
        if served is not None and served.release == release and (newer or name not in self.quarantined):
            return served, newer
        try:
            return self._usable(release), newer
        except (ReleaseError, DocumentError) as error:
            return served, Broken(name, release.number, "; ".join(map(str, error.problems)))

    def _usable(self, release: Release) -> Released:
        """Raises ReleaseError, DocumentError."""
        found = released(release, partial(self._store.document, release.pipeline))
        check_inputs(release, found.arms)
        for pipeline in found.arms.values():
            self._accept(pipeline)
        return found

"""The releases, and the indexes of models, among the resources: what a process serves of each pipeline, and which it can't."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headrace.pipeline import DocumentError, Pipeline, Problem
from headrace.releases.catalog import Released, released
from headrace.releases.document import from_bytes
from headrace.releases.errors import ReleaseError
from headrace.releases.inputs import check_inputs
from headrace.repository.errors import RepositoryError
from headrace.repository.model_index import MODEL, Indexes, ModelIndex, index_of
from headrace.resources.apply import Compile, Unit
from headrace.resources.follower import Follower

_RELEASE = "release"
_NOTHING = Problem(
    "releases",
    1,
    "(store)",
    "nothing to serve by has come yet: neither control, the disk nor the artifact store has it",
)


def release_compiler(accept: Callable[[Pipeline], None] = lambda _: None) -> Compile:
    """Makes the `Released` of a release with its documents. `accept` may refuse a pipeline by raising DocumentError."""

    def compile_release(unit: Unit) -> Released:
        name = unit.key[1]
        release = from_bytes(name, unit.resources[0].content)
        found = released(release, lambda revision: _text(unit.content("document", f"{name}/{revision}")))
        check_inputs(release, found.arms)
        for pipeline in found.arms.values():
            try:
                accept(pipeline)
            except DocumentError as error:
                raise ReleaseError(name, map(str, error.problems)) from None
        return found

    return compile_release


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A release that can't be served.

    `name`: of its pipeline. `serves`: the last good document, which goes on serving; None: there is none, so the pipeline can't
    be used.
    """

    name: str
    problem: Problem
    serves: Pipeline | None


@dataclass(frozen=True, slots=True)
class Reload:
    """What one reload changed. `problems`: the new ones. `cleared`: names of pipelines that left quarantine."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    cleared: tuple[str, ...] = ()


class ReleaseCatalog:
    """What serves of each pipeline by what a follower has, as of the last `reload`: the newest release, or while that can't be
    used the last good one. The follower compiles by `release_compiler`."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        # Problems of all releases: nothing has come yet.
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
        """Blocks until the state differs from `seen` ("": unknown), or for `timeout_s`. Returns the state."""
        view = self._follower.wait(seen, timeout_s)
        return seen if view is None else view.state

    def reload(self) -> Reload:
        """Takes over what the follower has now. A problem is reported once while it stays the same."""
        before, broken, troubles = self.released, self.quarantined, self.troubles
        view = self._follower.view
        if view is None:
            self.troubles = (_NOTHING,)
            return Reload(problems=() if troubles else self.troubles)
        after = {key[1]: found for key, found in view.compiled.items() if isinstance(found, Released)}
        quarantined: dict[str, Quarantined] = {}
        for (kind, name), rejected in view.rejected.items():
            serves = after.get(name)
            # What is compiled, or waits for that, takes the place of what serves soon.
            if kind == _RELEASE and not (serves and rejected.pending):
                file = f"releases/{name}/{serves.number if serves else 0}"
                problem = Problem(file, 1, "(release)", rejected.problem)
                quarantined[name] = Quarantined(name, problem, serves.live if serves else None)
        self.troubles = ()
        self.released, self.quarantined = MappingProxyType(after), MappingProxyType(quarantined)
        return Reload(
            tuple(n for n, found in after.items() if before.get(n) is not found),
            tuple(n for n in before if n not in after),
            tuple(
                q.problem for n, q in quarantined.items() if n not in broken or broken[n].problem != q.problem
            ),
            tuple(n for n in broken if n not in quarantined),
        )


def _text(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None


def followed_indexes(follower: Follower | None) -> Indexes | None:
    """As a follower has them; None: nothing is followed."""
    if follower is None:
        return None

    def index(model: str) -> ModelIndex | None:
        if (view := follower.view) is None:
            raise RepositoryError(model, "", "nothing to serve by has come from control yet", "wait for it")
        content = view.snapshot.content(MODEL, model)
        return None if content is None else index_of(model, content)

    return index

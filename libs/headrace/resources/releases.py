"""The releases among the resources, as a `ReleaseReader`."""

from __future__ import annotations

from collections.abc import Callable

from headrace.pipeline import DocumentError, Pipeline
from headrace.releases.catalog import released
from headrace.releases.document import Release, from_bytes
from headrace.releases.errors import ReleaseError
from headrace.releases.inputs import check_inputs
from headrace.releases.store import REMOVED, Broken
from headrace.resources.apply import COMPILING, WAITING, Compile, Unit, View
from headrace.resources.follower import Follower


def release_compiler(accept: Callable[[Pipeline], None] = lambda _: None) -> Compile:
    """Tries a release with its documents as `ReleaseCatalog` reads them. `accept`: as there."""

    def compile_release(unit: Unit) -> object:
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


class SnapshotReleases:
    """A `ReleaseReader` of what a follower has. Only the newest release of a pipeline is there."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        # The last release of each pipeline that was seen, and the hash of its content.
        self._seen: dict[str, tuple[bytes, Release]] = {}

    def pipelines(self) -> list[str]:
        view = self._view()
        rejected = {name for kind, name in view.rejected if kind == "release"}
        return sorted({*view.snapshot.names("release")} | rejected)

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        """If the newest release can't be used, what stands in for it; without that, what is wrong."""
        view = self._view()
        seen = self._seen.get(pipeline)
        number = seen[1].number if seen else 0
        if found := view.snapshot.resources.get(("release", pipeline)):
            if seen is None or seen[0] != found.sha256:
                try:
                    seen = self._seen[pipeline] = found.sha256, from_bytes(pipeline, found.content)
                except ReleaseError as error:
                    return None, Broken(pipeline, number, "; ".join(error.problems))
            return seen[1], None
        if rejected := view.rejected.get(("release", pipeline)):
            return None, Broken(pipeline, number, rejected.problem)
        return None, Broken(pipeline, number, REMOVED) if number else None

    def refused(self, pipeline: str) -> str:
        """Why the newest release does not serve here, but the current one in its place; "": it does."""
        found = self._view().rejected.get(("release", pipeline))
        return "" if found is None or found.problem in (COMPILING, WAITING) else found.problem

    def document(self, pipeline: str, revision: str) -> str | None:
        return _text(self._view().snapshot.content("document", f"{pipeline}/{revision}"))

    def wait(self, seen: str, timeout_s: float) -> str:
        view = self._follower.wait(seen, timeout_s)
        if view is None:
            raise OSError(
                "nothing to serve by has come yet: neither control, the disk nor the artifact store has it"
            )
        return view.state

    def _view(self) -> View:
        view = self._follower.view
        if view is None:
            raise OSError("nothing to serve by has come yet")
        return view


def _text(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None

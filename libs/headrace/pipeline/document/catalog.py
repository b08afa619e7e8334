"""The pipelines of a folder, kept current while their files change. A file that is wrong stops no pipeline but its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from headrace.pipeline.document.entries import NAME
from headrace.pipeline.document.last_good import Kept
from headrace.pipeline.document.parse import FILE_NAME, Stamp, parse, read, shown, stamp_of
from headrace.pipeline.problems import DocumentError, Problem
from headrace.pipeline.spec import Pipeline

# The file, or a folder on the way to it, is not there: nobody wants such a pipeline.
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
# Of a file that gives none: it is read at each look.
_NEVER: Stamp = (-1, -1, -1)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that can't be served as it is.

    `name`: what its pipeline is called. `serves`: its last good revision, which goes on; None: there is none, so the
    pipeline can't be used.
    """

    name: str
    problems: tuple[Problem, ...]
    serves: Pipeline | None


@dataclass(frozen=True, slots=True)
class Reload:
    """What one look at the files changed. `problems`: those that are new, of documents and of keeping them;
    `cleared`: names of pipelines that left quarantine, as their documents were mended or are gone."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    cleared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    """One document as it was last seen. `pipeline`: what it says, None if it is broken; then `problems` says why.
    `good`: the last revision that served in this process; `copy`: the one that is kept, with its stamp."""

    stamp: Stamp
    text: str = ""
    pipeline: Pipeline | None = None
    problems: tuple[Problem, ...] = ()
    good: Pipeline | None = None
    copy: Pipeline | None = None
    copied: Stamp | None = None


class Catalog:
    """Reads a folder at once, and again at each `reload`. Raises nothing: what is wrong stands in `quarantined`.

    `pipelines` and `quarantined` (by the document's subfolder) are replaced as a whole, so a reader in another thread
    sees the old set or the new one. `accept` may refuse a pipeline by raising DocumentError. `kept`: where last good
    revisions outlive the process; None: nowhere.
    """

    def __init__(
        self,
        folder: Path,
        *,
        accept: Callable[[Pipeline], None] = lambda _: None,
        kept: Kept | None = None,
    ) -> None:
        self._folder = folder
        self._accept = accept
        self._kept = kept
        self._files: dict[str, _File] = {}
        # Which document has a name: the one that served it last, by the name of its subfolder.
        self._holders: dict[str, str] = {}
        self._saved: dict[str, str] = {}
        # What is wrong with the folder as a whole, or with keeping copies.
        self.troubles: tuple[Problem, ...] = ()
        self.pipelines: Mapping[str, Pipeline] = MappingProxyType({})
        self.quarantined: Mapping[str, Quarantined] = MappingProxyType({})
        self.first = self.reload()

    @property
    def unusable(self) -> frozenset[str]:
        """Names of pipelines that there should be, but of which no good revision is known."""
        return (
            frozenset(q.name for q in self.quarantined.values() if q.serves is None) - self.pipelines.keys()
        )

    def reload(self) -> Reload:
        """Reads the files that changed since the last look; reports a problem once, while it stays the same."""
        troubles: list[Problem] = []
        files = self._look(troubles)
        before, quarantined_before = self.pipelines, self.quarantined
        after, quarantined = self._served(files)
        self._files = files
        self._keep(quarantined, troubles)
        self.pipelines, self.quarantined = MappingProxyType(after), MappingProxyType(quarantined)
        known = {p for q in quarantined_before.values() for p in q.problems} | {*self.troubles}
        found = [*troubles, *(p for q in quarantined.values() for p in q.problems)]
        self.troubles = tuple(troubles)
        return Reload(
            tuple(n for n, p in after.items() if n not in before or before[n].revision != p.revision),
            tuple(n for n in before if n not in after),
            tuple(p for p in found if p not in known),
            tuple(q.name for key, q in quarantined_before.items() if key not in quarantined),
        )

    def _look(self, troubles: list[Problem]) -> dict[str, _File]:
        try:
            names = sorted(p.name for p in self._folder.iterdir())
        except OSError as error:
            # Not that there are no pipelines: nobody can tell. What served goes on.
            troubles.append(Problem(shown(self._folder), 1, "(folder)", f"can't be read: {error.strerror}"))
            names = [*self._files, *(n for n in self._kept_names() if n not in self._files)]
            return {name: self._with_copy(name, self._files.get(name) or self._lost(name)) for name in names}
        files = {}
        for name in names:
            file = self._file(name)
            if file is not None:
                files[name] = file
        return files

    def _file(self, name: str) -> _File | None:
        """The document of a subfolder; None if there is none."""
        old = self._files.get(name)
        try:
            stamp = stamp_of(self._folder / name / FILE_NAME)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            stamp = _NEVER
        if old is None or old.stamp != stamp or stamp == _NEVER:
            old = self._parsed(name, stamp, old)
        return self._with_copy(name, old)

    def _parsed(self, name: str, stamp: Stamp, old: _File | None) -> _File:
        path = self._folder / name / FILE_NAME
        text, pipeline, problems = "", None, tuple[Problem, ...]()
        try:
            text = read(path)
            pipeline = self._checked(text, path)
        except DocumentError as error:
            problems = error.problems
        except Exception as error:  # noqa: BLE001 - whatever a document holds, it must not stop the others
            message = f"can't be understood ({type(error).__name__})"
            problems = (Problem(shown(path), 1, "(document)", message),)
        if old is None:
            return _File(stamp, text, pipeline, problems)
        return replace(old, stamp=stamp, text=text, pipeline=pipeline, problems=problems)

    def _checked(self, text: str, path: Path) -> Pipeline:
        pipeline = parse(text, shown(path))
        self._accept(pipeline)
        return pipeline

    def _with_copy(self, name: str, file: _File) -> _File:
        """The file with what is kept of it, where that matters."""
        kept = self._kept
        # Who writes the copies knows better than they do what served last, unless it has just begun.
        if kept is None or (name in self._files and (kept.writes or file.pipeline)):
            return file
        stamp = kept.stamp(name)
        if stamp is None or stamp == file.copied:
            return file
        text = kept.text(name)
        try:
            if text is not None and text != file.text:
                copy: Pipeline | None = self._checked(text, self._folder / name / FILE_NAME)
            else:
                copy = file.pipeline
        except Exception:  # noqa: BLE001 - a damaged copy, or one of another version of headrace: as if there were none
            copy = None
        if copy and file.good and copy.revision == file.good.revision:
            copy = file.good
        return replace(file, copy=copy or file.copy, copied=stamp)

    def _last_good(self, file: _File) -> Pipeline | None:
        # Who only reads the copies follows the one who writes them, so that all serve the same.
        follows = self._kept is not None and not self._kept.writes
        return (file.copy or file.good) if follows else (file.good or file.copy)

    def _lost(self, name: str) -> _File:
        """A document of which there is nothing but the copy."""
        path = self._folder / name / FILE_NAME
        return _File(_NEVER, problems=(Problem(shown(path), 1, "(file)", "can't be read"),))

    def _kept_names(self) -> Iterable[str]:
        return self._kept.names() if self._kept else ()

    def _served(self, files: dict[str, _File]) -> tuple[dict[str, Pipeline], dict[str, Quarantined]]:
        """What each document serves; sets the good revision in `files`."""
        found: dict[str, Pipeline] = {}
        holders: dict[str, str] = {}
        quarantined: dict[str, Quarantined] = {}
        # Who has a name keeps it: a new file can't take another's, nor can an old one while its owner is broken.
        for name in sorted(files, key=lambda n: (not self._holds(n, files[n]), n)):
            file = files[name]
            problems, serves = file.problems, file.pipeline
            if serves is not None and serves.name in found:
                other = files[holders[serves.name]]
                problems = (_claimed(serves, other.pipeline or found[serves.name]),)
                serves = None
            if serves is None:
                serves = self._last_good(file)
                if serves is not None and serves.name in found:
                    serves = None
                called = serves.name if serves else _pipeline_name(name)
                quarantined[name] = Quarantined(called, problems, serves)
            else:
                files[name] = replace(file, good=serves)
            if serves is not None:
                found[serves.name] = serves
                holders[serves.name] = name
        self._holders = holders
        return dict(sorted(found.items())), quarantined

    def _holds(self, name: str, file: _File) -> bool:
        good = self._last_good(file)
        if good is None:
            return False
        # At the start nobody holds anything yet: then the copies tell.
        return self._holders.get(good.name, name) == name and (
            file.pipeline is None or file.pipeline.name == good.name
        )

    def _keep(self, quarantined: Mapping[str, Quarantined], troubles: list[Problem]) -> None:
        kept = self._kept
        if kept is None or not kept.writes:
            return
        failure: OSError | None = None
        for name in self._files.keys() - quarantined.keys():
            failure = self._saving(kept, name, self._files[name].text) or failure
        # Of documents that nobody wants any more; while the folder can't be read, nobody knows which.
        for name in () if troubles else kept.names():
            if name not in self._files:
                kept.drop(name)
                self._saved.pop(name, None)
        if failure is not None:
            message = (
                f"last good documents can't be kept, so a restart may find older ones: {failure.strerror}"
            )
            troubles.append(Problem(shown(kept.folder), 1, "(kept)", message))

    def _saving(self, kept: Kept, name: str, text: str) -> OSError | None:
        """Keeps a document's text; it is tried again at each look until it succeeds."""
        if self._saved.get(name) == text and kept.stamp(name) is not None:
            return None
        try:
            kept.save(name, text)
        except OSError as error:
            return error
        self._saved[name] = text
        return None


def _pipeline_name(subfolder: str) -> str:
    """What the pipeline of a subfolder is called, by custom; such names are labels of metrics, too."""
    return subfolder if NAME.fullmatch(subfolder) else "(unnamed)"


def _claimed(pipeline: Pipeline, holder: Pipeline) -> Problem:
    return pipeline.source.problem("pipeline", f"{pipeline.name!r} is the name of {holder.source.file} too")

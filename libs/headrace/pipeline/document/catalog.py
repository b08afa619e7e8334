"""The pipelines of a folder, read again when their files change. A broken document stops no pipeline but its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from headrace.pipeline.document.entries import NAME
from headrace.pipeline.document.files import FILE_NAME, Stamp, name_taken, read, shown, stamp_of
from headrace.pipeline.document.last_good import Kept
from headrace.pipeline.document.parse import parse
from headrace.pipeline.problems import DocumentError, Problem
from headrace.pipeline.spec import Pipeline

# The file or its folder does not exist: the pipeline was removed.
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
# Of a file without a stamp: it is read at each reload.
_NEVER: Stamp = (-1, -1, -1)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that can't be served as it is.

    `name`: of its pipeline. `serves`: the last good revision, which goes on serving; None: there is none, so the pipeline
    can't be used.
    """

    name: str
    problems: tuple[Problem, ...]
    serves: Pipeline | None


@dataclass(frozen=True, slots=True)
class Reload:
    """What one reload changed. `problems`: the new ones, of documents and of keeping copies. `cleared`: names of pipelines
    that left quarantine, because their documents were mended or removed."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    cleared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    """One document at the last reload. `pipeline`: what it says; None if it is broken, and then `problems` says why.
    `good`: the last revision that served in this process. `copy`: the revision of the copy, whose stamp is `copied`."""

    stamp: Stamp
    text: str = ""
    pipeline: Pipeline | None = None
    problems: tuple[Problem, ...] = ()
    good: Pipeline | None = None
    copy: Pipeline | None = None
    copied: Stamp | None = None


class Catalog:
    """Reads a folder when it is made, and again at each `reload`. Raises nothing: broken documents are in `quarantined`.

    `pipelines` and `quarantined` (by the document's subfolder) are replaced as a whole, so a reader in another thread
    sees the old set or the new one. `accept` may refuse a pipeline by raising DocumentError. `kept`: copies of
    the last good texts, which survive a restart; None: no copies.
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
        # Pipeline name → subfolder of the document that served it last.
        self._holders: dict[str, str] = {}
        self._saved: dict[str, str] = {}
        # Problems of the folder as a whole, and of writing copies.
        self.troubles: tuple[Problem, ...] = ()
        self.pipelines: Mapping[str, Pipeline] = MappingProxyType({})
        self.quarantined: Mapping[str, Quarantined] = MappingProxyType({})
        self.first = self.reload()

    @property
    def unusable(self) -> frozenset[str]:
        """Names of pipelines that have a document but no good revision."""
        return (
            frozenset(q.name for q in self.quarantined.values() if q.serves is None) - self.pipelines.keys()
        )

    def reload(self) -> Reload:
        """Reads the files that changed since the last reload. A problem is reported once while it stays the same."""
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
            # This does not mean that there are no pipelines. What served before goes on serving.
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
        except Exception as error:  # noqa: BLE001 - no content of a document may stop the others
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
        """The file with its copy, if the copy has to be read."""
        kept = self._kept
        # A process that writes the copies knows what served last, except at its start.
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
        except Exception:  # noqa: BLE001 - a damaged copy, or one of another version of headrace, counts as no copy
            copy = None
        if copy and file.good and copy.revision == file.good.revision:
            copy = file.good
        return replace(file, copy=copy or file.copy, copied=stamp)

    def _last_good(self, file: _File) -> Pipeline | None:
        # A process that only reads the copies serves what they say, so that all processes serve the same.
        follows = self._kept is not None and not self._kept.writes
        return (file.copy or file.good) if follows else (file.good or file.copy)

    def _lost(self, name: str) -> _File:
        """A document that can't be read; only its copy is known."""
        path = self._folder / name / FILE_NAME
        return _File(_NEVER, problems=(Problem(shown(path), 1, "(file)", "can't be read"),))

    def _kept_names(self) -> Iterable[str]:
        return self._kept.names() if self._kept else ()

    def _served(self, files: dict[str, _File]) -> tuple[dict[str, Pipeline], dict[str, Quarantined]]:
        """The pipelines to serve by name, and the documents in quarantine; sets the good revision in `files`."""
        found: dict[str, Pipeline] = {}
        holders: dict[str, str] = {}
        quarantined: dict[str, Quarantined] = {}
        # The document that has a name keeps it, also while it is broken: so documents that hold their name come first.
        for name in sorted(files, key=lambda n: (not self._holds(n, files[n]), n)):
            file = files[name]
            problems, serves = file.problems, file.pipeline
            if serves is not None and serves.name in found:
                other = files[holders[serves.name]]
                problems = (name_taken(serves, (other.pipeline or found[serves.name]).source.file),)
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
        # At the start no document holds a name yet: then the copies decide.
        return self._holders.get(good.name, name) == name and (
            file.pipeline is None or file.pipeline.name == good.name
        )

    def _keep(self, quarantined: Mapping[str, Quarantined], troubles: list[Problem]) -> None:
        kept = self._kept
        if kept is None or not kept.writes:
            return
        failure: OSError | None = None
        for name in self._files.keys() - quarantined.keys():
            failure = self._save(kept, name, self._files[name].text) or failure
        # Copies of documents that were removed. While the folder can't be read, it is not known which were.
        for name in () if troubles else kept.names():
            if name not in self._files:
                kept.drop(name)
                self._saved.pop(name, None)
        if failure is not None:
            message = (
                f"last good documents can't be kept, so a restart may find older ones: {failure.strerror}"
            )
            troubles.append(Problem(shown(kept.folder), 1, "(kept)", message))

    def _save(self, kept: Kept, name: str, text: str) -> OSError | None:
        """Writes the copy of a document; tried again at each reload until it succeeds."""
        if self._saved.get(name) == text and kept.stamp(name) is not None:
            return None
        try:
            kept.save(name, text)
        except OSError as error:
            return error
        self._saved[name] = text
        return None


def _pipeline_name(subfolder: str) -> str:
    """The name to show for a subfolder whose pipeline is unknown. It becomes a label of metrics, so it must be a valid name."""
    return subfolder if NAME.fullmatch(subfolder) else "(unnamed)"

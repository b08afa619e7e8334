"""The pipelines of a folder, kept current while their files change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from headrace.pipeline.document import FILE_NAME, load
from headrace.pipeline.problems import DocumentError, Problem
from headrace.pipeline.spec import Pipeline

_Stamp: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Reload:
    """What one look at the files changed. `problems`: of files whose old revision was kept."""

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    stamp: _Stamp
    pipeline: Pipeline | None


class Catalog:
    """Reads a folder at once (DocumentError if anything in it is wrong), and again at each `reload`.

    `pipelines` is replaced as a whole, so a reader in another thread sees the old set or the new one.
    `accept` may refuse a pipeline by raising DocumentError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        load: Callable[[Path], Pipeline] = load,
        accept: Callable[[Pipeline], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._load = load
        self._accept = accept
        self._files: dict[Path, _File] = {}
        self.pipelines: Mapping[str, Pipeline] = MappingProxyType({})
        first = self.reload()
        if first.problems:
            raise DocumentError(first.problems)

    def reload(self) -> Reload:
        """Reads the files that changed since the last look; reports a problem once per change of its file."""
        problems: list[Problem] = []
        files: dict[Path, _File] = {}
        for path in sorted(self._folder.glob(f"*/{FILE_NAME}")):
            stamp = _stamp(path)
            if stamp is None:
                continue
            old = self._files.get(path)
            if old is None or old.stamp != stamp:
                files[path] = _File(stamp, self._read(path, old, problems))
            else:
                files[path] = old
        before, after = self.pipelines, self._by_name(files, problems)
        self._files = files
        self.pipelines = MappingProxyType(after)
        changed = tuple(n for n, p in after.items() if n not in before or before[n].revision != p.revision)
        return Reload(changed, tuple(n for n in before if n not in after), tuple(problems))

    def _read(self, path: Path, old: _File | None, problems: list[Problem]) -> Pipeline | None:
        try:
            pipeline = self._load(path)
            self._accept(pipeline)
        except DocumentError as error:
            problems.extend(error.problems)
            return old.pipeline if old else None
        return pipeline

    def _by_name(self, files: Mapping[Path, _File], problems: list[Problem]) -> dict[str, Pipeline]:
        found: dict[str, Pipeline] = {}
        # Who has a name keeps it: a new file can't take another's.
        holders = {p.source.file for p in self.pipelines.values()}
        for path, file in sorted(files.items(), key=lambda item: str(item[0]) not in holders):
            if file.pipeline is None:
                continue
            name = file.pipeline.name
            if name not in found:
                found[name] = file.pipeline
            elif self._files.get(path) is not file:
                other = found[name].source.file
                problems.append(
                    file.pipeline.source.problem("pipeline", f"{name!r} is the name of {other} too")
                )
        return found


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None  # removed between the listing and now
    return status.st_mtime_ns, status.st_size, status.st_ino

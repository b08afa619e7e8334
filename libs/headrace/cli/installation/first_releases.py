"""What `headrace up` makes live in a new home: each document that was never released.

From then on only releases change what is live; a document or a model that is added later changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.cli.installation.layout import Layout
from headrace.pipeline import DocumentError, Pipeline, parse
from headrace.pipeline.document.files import FILE_NAME, read
from headrace.releases import ReleaseError, ReleaseStore, StaleError
from headrace.releases.first import first_release, models_of
from headrace.repository import Repository, RepositoryError
from headrace.repository.records import Records

AUTHOR = "headrace up"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document. `problem` empty: it is live."""

    pipeline: str
    version: int
    problem: str = ""


def make(layout: Layout, store: ReleaseStore, folder: Path) -> Iterator[Outcome]:
    """Releases each document of `folder` whose pipeline never had a release. Raises OSError: the store can't be written."""
    known = set(store.pipelines())
    for path in sorted(folder.glob(f"*/{FILE_NAME}")):
        try:
            text = read(path)
            pipeline = parse(text, str(path))
        except DocumentError as error:
            if path.parent.name not in known:
                yield Outcome(path.parent.name, 0, str(error.problems[0]))
            continue
        # One that was removed stays so.
        if pipeline.name not in known and store.current(pipeline.name) == (None, None):
            yield _release(layout, store, pipeline, text)


def _release(layout: Layout, store: ReleaseStore, pipeline: Pipeline, text: str) -> Outcome:
    try:
        models = models_of(pipeline, _Versions(layout).choose)
        store.keep_document(pipeline.name, pipeline.revision, text)
        store.commit(first_release(pipeline, models, AUTHOR, "the first release"))
    except StaleError:
        pass  # another command was first: it is live
    except ReleaseError as error:
        return Outcome(pipeline.name, pipeline.version, "; ".join(error.problems))
    return Outcome(pipeline.name, pipeline.version)


class _Versions:
    """The versions that are there: of a model that served before there were releases, the one that did; else the newest."""

    def __init__(self, layout: Layout) -> None:
        self._repository = Repository(layout.models)
        self._served: Mapping[str, list[str]] = Records(layout.executor_state).serving()

    def choose(self, model: str, wanted: str) -> str | None:
        try:
            if wanted:
                return self._repository.resolve(model, wanted)
            versions = self._repository.versions(model)
        except RepositoryError:
            return None
        served = [v for v in self._served.get(model, ()) if v in versions]
        return next(reversed(served or versions), None)

"""What `headrace up` makes live in a new home: each document that was never released.

From then on only releases change what is live; a document or a model that is added later changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace.cli.installation.layout import Layout
from headrace.pipeline import DocumentError, Pipeline, parse
from headrace.pipeline.document.files import FILE_NAME, read
from headrace.releases import LIVE, ReleaseError, StaleError
from headrace.releases.changes import Basis, deployed
from headrace.releases.changes.deployment import arm_of
from headrace.releases.known_models import known_models
from headrace.releases.of_records import RecordReleases
from headrace.repository import RepositoryError

AUTHOR = "headrace up"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document. `problem` empty: it is live."""

    pipeline: str
    version: int
    problem: str = ""


def make(layout: Layout, store: RecordReleases, folder: Path) -> Iterator[Outcome]:
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


def _release(layout: Layout, store: RecordReleases, pipeline: Pipeline, text: str) -> Outcome:
    try:
        known = known_models(layout.models, layout.executor_state, store.records)
        basis = Basis.of(store, pipeline.name, AUTHOR, "the first release")
        arm = arm_of(basis, pipeline, known, name=LIVE, models={})
        store.commit(deployed(basis, arm), {pipeline.revision: text})
    except StaleError:
        pass  # another command was first: it is live
    except ReleaseError as error:
        return Outcome(pipeline.name, pipeline.version, "; ".join(error.problems))
    except RepositoryError as error:
        return Outcome(pipeline.name, pipeline.version, str(error))
    return Outcome(pipeline.name, pipeline.version)

"""The store that a command changes, what is known about models, and the documents that can be released."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.commands.models.options import user
from headrace.cli.commands.operations.door_calls import Door, local
from headrace.cli.commands.releases.door import CHOSEN, DoorReleases
from headrace.cli.console import err, fail
from headrace.cli.console import place as home_place
from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.pipeline import DocumentError, Pipeline
from headrace.pipeline.document.files import FILE_NAME, read
from headrace.pipeline.problems import suggestion
from headrace.releases import ReleaseError, StaleError
from headrace.releases.changes import Basis, Documents, KnownModels
from headrace.releases.known_models import known_models
from headrace.releases.of_records import RecordReleases
from headrace.repository import RepositoryError

# Exit codes: refused, and somebody else was first.
REFUSED = 1
STALE = 3

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the history and the audit.")]
Number = Annotated[
    int | None,
    typer.Option("--number", min=0, help="Only if this release is the current one (0: there is none)."),
]


class ReleasePlace:
    """What a command works on. `store`: for reading and changing. `door`: of a running system, in place of control."""

    def __init__(self, home: Path, door: Door | None = None) -> None:
        """Raises ConfigError: it is not known where control is."""
        self.layout: Layout = home_place(home)
        self.door = door or local(self.layout)
        self.store: DoorReleases | RecordReleases = (
            DoorReleases(door) if door else control_place.releases(self.layout)
        )

    def basis(self, pipeline: str, reason: str = "", number: int | None = None) -> Basis:
        """What is live now. `number`: what must be. Raises ReleaseError, OSError."""
        basis = Basis.of(self.store, pipeline, user(), reason)
        if number is not None and number != basis.newest:
            raise StaleError(pipeline, basis.newest, number + 1)
        return basis

    def documents(self, pipeline: str) -> Documents:
        """The documents that a release of the pipeline may name."""
        return Documents(self.store, pipeline)

    def known(self) -> KnownModels:
        """What is in the model repository. Raises RepositoryError."""
        if isinstance(self.store, DoorReleases):
            return self.store.known()
        return known_models(self.layout.models, self.layout.executor_state, self.store.records)

    def newest_document(self, basis: Basis, documents: Documents) -> Pipeline:
        """The document of that name in the folder of documents; if there is none, the one that is live. Raises ReleaseError."""
        pipeline = basis.pipeline
        folder = self.layout.documents
        names = []
        for path in sorted(folder.glob(f"*/{FILE_NAME}")):
            try:
                text = read(path)
            except DocumentError as error:
                if path.parent.name == pipeline:
                    raise ReleaseError(pipeline, [f"document {p}" for p in error.problems]) from None
                continue
            name = _name(text)
            names.append(name)
            if name == pipeline:
                return documents.add(text, str(path))
        if basis.release is not None:
            text_of_live = documents.text(basis.release.live.revision)
            if text_of_live is not None:
                return documents.add(text_of_live, f"{pipeline}@{basis.release.live.revision[:12]}")
        known = suggestion(pipeline, filter(None, names))
        problem = f"pipeline: {folder} has no document of this pipeline{known}; name one: --document FILE"
        raise ReleaseError(pipeline, [problem])

    def document_file(self, path: Path, documents: Documents, pipeline: str) -> Pipeline:
        """The document of a file. Raises ReleaseError."""
        try:
            return documents.add(read(path), str(path))
        except DocumentError as error:
            raise ReleaseError(pipeline, [f"document {p}" for p in error.problems]) from None


@contextmanager
def opened(home: Path) -> Iterator[ReleasePlace]:
    """A place for one command. What is refused within ends the command: exit code 3 if somebody else was first, else 1."""
    try:
        found = ReleasePlace(home, CHOSEN.get())
        with closing(found.store):
            yield found
    except ReleaseError as error:
        for problem in error.problems:
            err.print("error:", style="bold red", end=" ")
            err.print(f"{error.pipeline}: {problem}", markup=False, soft_wrap=True)
        raise typer.Exit(STALE if isinstance(error, StaleError) else REFUSED) from None
    except (ConfigError, RepositoryError) as error:
        fail(str(error))


def _name(text: str) -> str:
    """The name that a document claims, though the rest of it may be broken."""
    line = next((line for line in text.splitlines() if line.startswith("pipeline:")), "")
    return line.removeprefix("pipeline:").split("#")[0].strip().strip("'\"")

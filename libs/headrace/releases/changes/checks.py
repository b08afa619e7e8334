"""Whether a release can be served: its documents, the models and settings of its arms, and what the arms have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from headrace.pipeline import DocumentError, Pipeline, parse
from headrace.pipeline.guards import GuardAction
from headrace.releases.catalog import released
from headrace.releases.changes.models import KnownModels, model_problems, pin_problems, signature_problems
from headrace.releases.document import LIVE, Arm, Release
from headrace.releases.errors import ReleaseError
from headrace.releases.inputs import check_inputs
from headrace.releases.store import ReleaseStore

# The text of a pipeline document by its revision; None: there is none.
FindText = Callable[[str], str | None]


class Documents:
    """The pipeline documents that a release may name: those of the store, and new ones. `new`: revision → text."""

    def __init__(self, store: ReleaseStore, pipeline: str) -> None:
        self._store = store
        self._pipeline = pipeline
        self.new: dict[str, str] = {}
        self._parsed: dict[str, Pipeline] = {}

    def add(self, text: str, file: str) -> Pipeline:
        """A new document. Raises ReleaseError: it is broken, or that of another pipeline."""
        try:
            pipeline = parse(text, file)
        except DocumentError as error:
            raise ReleaseError(self._pipeline, [f"document {p}" for p in error.problems]) from None
        if pipeline.name != self._pipeline:
            problem = f"document {file}: it is that of pipeline {pipeline.name!r}"
            raise ReleaseError(self._pipeline, [problem])
        self.new[pipeline.revision] = text
        self._parsed[pipeline.revision] = pipeline
        return pipeline

    def guards(self, arm: Arm) -> Mapping[str, GuardAction]:
        """What the arm's document declares, if it was added here."""
        return self._parsed[arm.revision].guards if arm.revision in self._parsed else {}

    def text(self, revision: str) -> str | None:
        """The text of a document. Raises OSError."""
        return self.new.get(revision) or self._store.document(self._pipeline, revision)


def checked(release: Release, text: FindText, known: KnownModels | None) -> Release:
    """The release, if it can be served. `known` None: which versions there are is not known here.

    Raises ReleaseError with every key that is wrong, OSError.
    """
    arms = released(release, text).arms
    problems = list(model_problems(release, known)) if known else []
    for name, arm in release.arms.items():
        problems += pin_problems(name, arms[name], arm.models)
        problems += signature_problems(name, arms[name], arm.models, known) if known else []
    problems += interface_problems(arms)
    if problems:
        raise ReleaseError(release.pipeline, problems)
    check_inputs(release, arms)
    return release


def interface_problems(arms: Mapping[str, Pipeline]) -> Iterator[str]:
    """Where an arm would not answer the same requests in the same form as the live one: callers can't know which arm they get."""
    live = arms[LIVE]
    inputs = {field.name: field for field in live.inputs}
    outputs = {field.name: field.type for field in live.outputs}
    for name, pipeline in arms.items():
        own = {field.name: field for field in pipeline.inputs}
        for column, field in own.items():
            if column not in inputs:
                yield f"arms.{name}.revision: it has an input {column!r}, which the arm {LIVE!r} has not"
            elif field.type != inputs[column].type:
                yield f"arms.{name}.revision: its input {column!r} is {field.type}, that of {LIVE!r} is {inputs[column].type}"
            elif field.required and not inputs[column].required:
                yield f"arms.{name}.revision: it requires the input {column!r}, which {LIVE!r} does not"
        for column in inputs.keys() - own.keys():
            yield f"arms.{name}.revision: it has no input {column!r}, which the arm {LIVE!r} has"
        types = {field.name: field.type for field in pipeline.outputs}
        for column in sorted(outputs.keys() ^ types.keys()):
            has, lacks = (name, LIVE) if column in types else (LIVE, name)
            yield f"arms.{name}.revision: the arm {has!r} has an output {column!r}, which {lacks!r} has not"
        for column, kind in types.items():
            if column in outputs and kind != outputs[column]:
                yield f"arms.{name}.revision: its output {column!r} is {kind}, that of {LIVE!r} is {outputs[column]}"

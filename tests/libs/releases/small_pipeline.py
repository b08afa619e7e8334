"""A pipeline with two models, its store, and what is known about its models."""

from pathlib import Path
from typing import Any

from headrace.pipeline import parse
from headrace.releases import Release
from headrace.releases.changes import Basis, Documents, KnownModels, checked, deployed
from headrace.releases.changes.deployment import arm_of
from headrace.releases.of_records import RecordReleases
from tests.released import database, spoil

TEXT = """\
pipeline: small
version: 1
deadline_ms: 250
inputs:
  name: {type: string, max_bytes: 8}
  size: {type: float32}
  vector: {type: float32, shape: [3], required: false}
stages:
  - model: first
    name: light
    inputs: {x: size}
    outputs: {y: {column: middle, type: float32}}
  - model: second
    name: heavy
    version: "7"
    inputs: {x: middle}
    outputs: {y: {column: answer, type: float32}}
outputs: [answer]
"""
KNOWN = KnownModels(
    {"light": ("1", "2", "10"), "heavy": ("7", "8"), "other": ("1",)},
    labels={"old": {"light": "1"}},
    unusable={("heavy", "8"): "it crashed"},
)


def changed(*pairs: tuple[str, str]) -> str:
    """The document with each first text replaced by the second."""
    text = TEXT
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


class Home:
    """A store with the pipeline's releases, whose database is in `folder`."""

    def __init__(self, store: RecordReleases, folder: Path) -> None:
        self.store = store
        self._folder = folder
        self.documents = Documents(self.store, "small")

    def spoil(self, *numbers: int) -> None:
        """These can't be read any more."""
        for number in numbers:
            spoil(database(self._folder), "small", number, b"{")

    def basis(self, reason: str = "") -> Basis:
        return Basis.of(self.store, "small", "me", reason)

    def commit(self, release: Release) -> Release:
        checked(release, self.documents.text, KNOWN)
        self.store.commit(release, self.documents.new)
        return release

    def arm(self, text: str = TEXT, name: str = "live", **options: Any) -> Any:
        pipeline = self.documents.add(text, "small.yaml")
        assert pipeline.revision == parse(text, "small.yaml").revision
        return arm_of(self.basis(), pipeline, KNOWN, name=name, models=options.pop("models", {}), **options)

    def deploy(self, text: str = TEXT, name: str = "live", **options: Any) -> Release:
        return self.commit(deployed(self.basis(), self.arm(text, name, **options), name))

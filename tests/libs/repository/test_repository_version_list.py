"""A model's list of versions keeps its name and form on the disk: `signed_before/` was signed when it was called releases."""

from __future__ import annotations

from pathlib import Path

from headrace.repository import Repository, Trust
from headrace.repository.version_list import parse, to_file

BEFORE = Path(__file__).parent / "signed_before"


def test_what_was_signed_before_the_list_was_renamed_is_read_and_verified() -> None:
    repository = Repository(BEFORE / "models", trust=Trust((BEFORE / "models.pub",)))
    assert repository.versions("light") == ["1", "2"]
    assert repository.resolve("light", "champion") == "1"
    assert repository.version_list("light").serial == 3
    assert repository.read("light", "2").signer


def test_it_is_written_as_it_was() -> None:
    content = (BEFORE / "models/light/releases.json").read_bytes()
    listing, signature = parse(content, "light")
    assert to_file(listing, signature) == content

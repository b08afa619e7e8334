"""The documents for people: their links lead somewhere, and ARCHITECTURE.md stays as short as it promises."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_WORDS = 40


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).exists()]


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_in_text_exist(document: Path) -> None:
    if document.name in ("CHANGELOG.md", "HISTORY.md"):  # they speak of the past
        return
    paths = re.findall(r"`((?:libs|services|load|tests|deploy|protos)/[\w./-]+)`", document.read_text())
    # X, NAME and `mine` stand for a name that the reader chooses.
    real = [path for path in paths if not re.search(r"/(X|NAME|mine)\b", path)]
    assert [path for path in real if not (ROOT / path).exists()] == []


def test_the_glossary_is_short() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Words")[2]
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert 0 < len(rows) <= MOST_WORDS
    assert rows == sorted(rows, key=str.lower)

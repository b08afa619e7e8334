"""The documents for people: their links lead somewhere, and ARCHITECTURE.md stays as short as it promises."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_WORDS = 40


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).exists()]


def test_links_lead_to_files_that_exist() -> None:
    links = [
        (document, link)
        for document in documents()
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
        if not re.match(r"[a-z]+:", link)
    ]
    dead = [f"{d.relative_to(ROOT)}: {link}" for d, link in links if not (d.parent / link).exists()]
    assert not dead, "\n".join(dead)


def test_paths_in_text_exist() -> None:
    absent = [
        f"{document.relative_to(ROOT)}: {path}"
        for document in documents()
        if document.name != "CHANGELOG.md"  # it speaks of the past
        for path in re.findall(
            r"`((?:libs|services|load|tests|deploy|protos)/[\w./-]+)`", document.read_text()
        )
        # X, NAME and `mine` stand for a name that the reader chooses.
        if not re.search(r"/(X|NAME|mine)\b", path) and not (ROOT / path).exists()
    ]
    assert not absent, "\n".join(absent)


def test_the_glossary_is_short() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Words")[2]
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert 0 < len(rows) <= MOST_WORDS
    assert rows == sorted(rows, key=str.lower)

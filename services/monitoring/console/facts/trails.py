"""Journals of the audit: what happened. Whether their lines were altered, `headrace audit verify` finds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.state import json_lines


@dataclass(frozen=True, slots=True)
class TrailView:
    """The newest entries of a journal, newest first. `problem`: the line that is damaged; empty: none is."""

    title: str
    entries: Sequence[Mapping[str, Any]]
    count: int
    problem: str = ""


class JournalTrail:
    """A journal. `name`: a word for addresses and programs."""

    def __init__(self, name: str, title: str, path: Path) -> None:
        self.name = name
        self._title = title
        self._path = path

    def read(self, newest: int) -> TrailView:
        """Its newest entries. Blocks. Raises OSError."""
        last: deque[dict[str, Any]] = deque(maxlen=newest)
        count, problem = 0, ""
        try:
            for entry in json_lines.entries(self._path):
                count += 1
                last.append(entry)
        except FileNotFoundError:
            pass  # nothing was written yet
        except ValueError as error:
            # The text begins with the path, which is nobody's business on a page.
            problem = str(error).removeprefix(f"{self._path}, ")
        return TrailView(self._title, tuple(reversed(last)), count, problem)

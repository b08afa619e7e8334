"""What is wrong with a pipeline document, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# Each comparison takes about 10 µs.
_MAX_COMPARED = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct: the file and line (from 1) that hold it, the key, and what to do."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: {self.message}"


class DocumentError(Exception):
    """A pipeline document is unusable. `problems`: everything found, not just the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document came from: its file, and the line of each key path such as `stages[0].entities[1]`."""

    file: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def problem(self, key: str, message: str) -> Problem:
        """A problem at `key`, or at the nearest key around it that the document has."""
        at = key
        while at and at not in self.lines:
            at = at[: max(at.rfind("."), at.rfind("["), 0)]
        return Problem(self.file, self.lines.get(at, 1), key, message)


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` if a known name is close, else the known names; empty if there is none."""
    names: Sequence[str] = sorted(known)
    if len(names) > _MAX_COMPARED:
        return f"; {len(names)} names are known"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""

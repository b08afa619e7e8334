"""`tests/LEDGER.jsonl`: what came of the slow tests. A line a run of one file's tests, appended by `python -m tests.slow`.

A test has a result if a line of the revision SINCE, or of a later one of this history, names it; the newest such line counts.
"""

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.skips import allowed

ROOT = Path(__file__).parents[1]
LEDGER = ROOT / "tests" / "LEDGER.jsonl"
# The last landed commit. A line of an older revision says nothing of what is there now; moved on when an issue is closed.
SINCE = "94b23bd"
# Behind a revision whose files were changed, or which was another one at the end: that proves nothing, and gets no line.
CHANGED = "+"


@dataclass
class Row:
    """One line. Tests by their name in the file, with seconds, or with the reason."""

    revision: str
    date: str  # ISO 8601, UTC
    file: str
    wall_s: float = 0.0
    cpu_s: float = 0.0  # of pytest and all it started, daemons too
    seed: int = 0  # of hypothesis
    passed: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)  # processes that were ended after the tests

    def __len__(self) -> int:
        return len(self.passed) + len(self.failed) + len(self.skipped)

    def line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Result:
    """Of one test: `passed`, `failed` or `skipped`, and why."""

    outcome: str
    why: str
    row: Row

    @property
    def proves(self) -> bool:
        return self.outcome == "passed" or (self.outcome == "skipped" and allowed(self.why))


def read() -> list[Row]:
    """All lines, the oldest first. Raises ValueError or TypeError if one is none."""
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    return sorted((Row(**json.loads(line)) for line in lines), key=lambda row: row.date)


def append(row: Row) -> None:
    with LEDGER.open("a") as file:
        file.write(row.line())


def results(rows: Iterable[Row]) -> dict[str, Result]:
    """Test id → what came of it last. `rows`: the oldest first."""
    found = {}
    for row in rows:
        for outcome in ("passed", "failed", "skipped"):
            for name, why in getattr(row, outcome).items():
                found[f"{row.file}::{name}"] = Result(outcome, str(why), row)
    return found


def durations(rows: Iterable[Row]) -> dict[str, float]:
    """Test id → seconds when it passed last, at any revision."""
    return {f"{row.file}::{name}": seconds for row in rows for name, seconds in row.passed.items()}


def counted(rows: Sequence[Row], since: str) -> list[Row]:
    """The rows of `since` or of a later commit of this history."""
    commits = [*git("rev-list", f"{since}..HEAD").split(), git("rev-parse", f"{since}^{{commit}}")]
    short = {commit[:12] for commit in commits}
    return [row for row in rows if row.revision in short]


def revision() -> str:
    """Of the checkout, with CHANGED behind it if a tracked file but the ledger was changed."""
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{LEDGER.relative_to(ROOT)}")
    return git("rev-parse", "HEAD")[:12] + (CHANGED if changed else "")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()

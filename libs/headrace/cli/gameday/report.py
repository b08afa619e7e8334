"""The report of a game day: JSON for programs, a table for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from headrace.cli.gameday import table
from headrace.cli.gameday.expectation import Expectation
from headrace.cli.gameday.figures import Figures
from headrace.state import atomic


@dataclass(slots=True)
class Report:
    """`pace`: of the alerts. `not_played`: why, by fault."""

    begun: datetime
    pace: float
    played: list[tuple[Expectation, Figures]] = field(default_factory=list)
    not_played: dict[str, str] = field(default_factory=dict)

    @property
    def as_expected(self) -> bool:
        """Whether every fault was played, and came out as it should."""
        return not self.not_played and all(not expected.broken(figures) for expected, figures in self.played)

    def json(self) -> str:
        """For programs."""
        played = [
            {"fault": e.name, "expected": _plain(e), "figures": f.told(), "broken": e.broken(f)}
            for e, f in self.played
        ]
        told = {
            "begun": self.begun.isoformat(timespec="seconds"),
            "pace": self.pace,
            "as_expected": self.as_expected,
        }
        return json.dumps({**told, "played": played, "not_played": self.not_played}, indent=1)

    def text(self) -> str:
        """For people, in Markdown."""
        pace = "real" if self.pace == 1 else f"1:{self.pace:g}"
        rows = "".join(table.row(expected, figures, pace) for expected, figures in self.played)
        left = "".join(
            f"\n{name} was not played to its end: {why}.\n" for name, why in self.not_played.items()
        )
        return f"# Game day of {self.begun.astimezone(UTC):%Y-%m-%d %H:%M} UTC\n\n{table.HEAD}{rows}{left}"

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Both files. Raises OSError."""
        name = f"{self.begun.astimezone(UTC):%Y%m%d-%H%M%S}"
        files = folder / f"report-{name}.json", folder / f"report-{name}.md"
        for path, text in zip(files, (self.json(), self.text()), strict=True):
            atomic.write(path, text.encode(), mode=0o600)
        return files


def _plain(expected: Expectation) -> dict[str, object]:
    return {**asdict(expected), "codes": sorted(expected.codes)}

"""Accuracy on a pipeline's page of the console."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

from services.monitoring.accuracy.figures import VersionFigures
from services.monitoring.console.facts import words
from services.monitoring.console.ports import Level, Panel, PanelRow

# Versions that are shown, the newest.
_SHOWN = 3

Figures = Callable[[str], Awaitable[Sequence[VersionFigures]]]


class AccuracyPanel:
    """A `PanelSource`."""

    def __init__(self, figures: Figures, least_coverage: float) -> None:
        self._figures = figures
        self._least_coverage = least_coverage

    async def __call__(self, pipeline: str) -> Panel | None:
        """None: nothing was predicted lately."""
        found = (await self._figures(pipeline))[:_SHOWN]
        if not found:
            return None
        rows = [row for version in found for row in self._rows(version)]
        return Panel(
            "Accuracy",
            self._sentence(found[0]),
            rows,
            self._level(found[0]),
            {"coverage_wanted": self._least_coverage, "versions": [asdict(version) for version in found]},
        )

    def _sentence(self, newest: VersionFigures) -> str:
        if newest.coverage is None:
            return "No outcome was reported yet, so nothing is known of how often predictions are right."
        if newest.accuracy is None:
            wanted = words.share(self._least_coverage)
            return f"Too few predictions have an outcome to tell accuracy: {wanted} of an hour's are needed."
        judged = words.plural(newest.labelled, "prediction")
        return f"{words.share(newest.accuracy)} of {judged} with an outcome were right; a part without labels may differ."

    def _level(self, version: VersionFigures) -> Level:
        if version.coverage is None:
            return "none"
        return "watch" if version.coverage < self._least_coverage else "none"

    def _rows(self, version: VersionFigures) -> list[PanelRow]:
        named = version.version
        told = f"over {version.told} of {words.plural(version.windows, 'window')}; {version.wrong} wrong of {version.labelled}"
        expected = "by the model itself, without labels"
        if version.expected is None:
            expected = "its baseline does not say that its probabilities are calibrated"
        rows = [
            PanelRow(f"{named}: accuracy", words.share(version.accuracy), told, version.accuracy),
            PanelRow(f"{named}: expected", words.share(version.expected), expected, version.expected),
            PanelRow(
                f"{named}: coverage",
                words.share(version.coverage),
                f"{words.count(version.labels)} of {words.plural(version.rows, 'prediction')} have a label",
                version.coverage,
                self._level(version),
            ),
        ]
        if version.delays_s is not None:
            half, most, _ = version.delays_s
            note = f"90 % within {words.age(most)}"
            rows.append(PanelRow(f"{named}: labels come after", words.age(half), note))
        if version.contradictions:
            rows.append(
                PanelRow(f"{named}: contradictions", words.count(version.contradictions), "not taken")
            )
        return rows

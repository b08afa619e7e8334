"""Accuracy on a pipeline's page of the console."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

from services.monitoring.accuracy.figures import VersionFigures
from services.monitoring.console.facts import words
from services.monitoring.console.ports import Level, Panel, PanelRow

# Versions that are shown, the newest.
_SHOWN = 3

Figures = Callable[[str], Awaitable[Sequence[VersionFigures]]]


@dataclass(frozen=True, slots=True)
class AccuracyPanel:
    """A `PanelSource`."""

    figures: Figures
    least_coverage: float

    async def __call__(self, pipeline: str) -> Panel | None:
        """None: nothing was predicted lately."""
        found = (await self.figures(pipeline))[:_SHOWN]
        if not found:
            return None
        rows = [row for version in found for row in self._rows(version)]
        return Panel(
            "Accuracy",
            self._sentence(found[0]),
            rows,
            self._level(found[0]),
            {"coverage_wanted": self.least_coverage, "versions": [asdict(version) for version in found]},
        )

    def _sentence(self, newest: VersionFigures) -> str:
        if newest.coverage is None:
            return "No outcome was reported yet, so nothing is known of how often predictions are right."
        if newest.accuracy is None:
            wanted = words.share(self.least_coverage)
            return f"Too few predictions have an outcome to tell accuracy: {wanted} of an hour's are needed."
        judged = words.plural(newest.judged_count, "prediction")
        return f"{words.share(newest.accuracy)} of {judged} with an outcome were right; a part without labels may differ."

    def _level(self, version: VersionFigures) -> Level:
        if version.coverage is None:
            return "none"
        return "watch" if version.coverage < self.least_coverage else "none"

    def _rows(self, of: VersionFigures) -> list[PanelRow]:
        name = of.version
        judged = f"over {of.told_window_count} of {words.plural(of.window_count, 'window')}; "
        judged += f"{of.wrong_count} wrong of {of.judged_count}"
        labelled = (
            f"{words.count(of.label_count)} of {words.plural(of.prediction_count, 'prediction')} have a label"
        )
        expected = "by the model itself, without labels"
        if of.expected_accuracy is None:
            expected = "its baseline does not say that its probabilities are calibrated"
        rows = [
            PanelRow(f"{name}: accuracy", words.share(of.accuracy), judged, of.accuracy),
            PanelRow(f"{name}: expected", words.share(of.expected_accuracy), expected, of.expected_accuracy),
            PanelRow(f"{name}: coverage", words.share(of.coverage), labelled, of.coverage, self._level(of)),
        ]
        if of.delays_s is not None:
            half, most, _ = of.delays_s
            note = f"90 % within {words.age(most)}"
            rows.append(PanelRow(f"{name}: labels come after", words.age(half), note))
        if of.contradiction_count:
            count = words.count(of.contradiction_count)
            rows.append(PanelRow(f"{name}: contradictions", count, "not taken"))
        return rows

"""The reports of a process: one for each release and pair of arms, a bounded number."""

from __future__ import annotations

from headrace.comparison import ComparisonReport

# Of one pipeline; the oldest is forgotten. A release is one of many only where automation changes weights all the time.
KEPT = 8


class Reports:
    """`epoch`: names this process, so that a reader notices when counts begin anew."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._reports: dict[str, dict[tuple[int, str, str], ComparisonReport]] = {}

    def of(self, pipeline: str, release: int, arm: str, against: str) -> ComparisonReport:
        """The report to count in."""
        kept = self._reports.setdefault(pipeline, {})
        key = release, arm, against
        report = kept.get(key)
        if report is None:
            report = kept[key] = ComparisonReport(pipeline, release, arm, against, self._epoch)
            if len(kept) > KEPT:
                del kept[next(iter(kept))]
        return report

    def listed(self, pipeline: str) -> list[ComparisonReport]:
        """Of one pipeline, newest first; "": of all."""
        names = [pipeline] if pipeline else sorted(self._reports)
        return [r for name in names for r in reversed(self._reports.get(name, {}).values())]

"""The page of what was seen: deploy/runbooks/chaos.md."""

from dataclasses import dataclass
from pathlib import Path

from tests.chaos.expectation import Expectation, Figures

HEAD = (
    "| fault | what is done | alert that came | after s | requests | failed, by code | rows with fallbacks | slowest s "
    "| mended by | well again after s | as expected |\n|---|---|---|--:|--:|---|--:|--:|---|--:|---|\n"
)
_PAGE = """\
# Chaos: what each fault cost

Written by `tests/chaos` (its README says what stands for what): a whole system on one machine, in the shape apart, one-row
requests by two callers, each at once after its answer; a real Prometheus and Alertmanager, whose webhook had to be told. Alerts
marked `1:60` come at a sixtieth of their times, so "after s" is not what production would see. "Well again" counts from the end
of the fault, or from the last blow where the system mends it by itself.
The row "none" is the same traffic without a fault. A row stays until its fault is done again.

Each service has one replica here. While it is away every request that needs it fails at once, and its caller asks again 5 ms
later: the count of UNAVAILABLE says how fast they fail, not what share of usual traffic is lost. With one of two killed
(`headrace up --replicas preprocessing=2`) none fails (load/RESULTS.md). How long a service is away is the start of a Python
process (imports: 0.9 s of a processor for preprocessing, 1.3 s for the executor; several times as long on a loaded machine):
the supervisor sees a killed one at once and waits 0.1, 0.2, 0.4 s before its first starts. A stopped one (SIGSTOP) it kills
after 6 to 7 s.

"""


@dataclass(frozen=True, slots=True)
class ChaosRecord:
    """`path`: the page, which may be there from an earlier run; None: nothing is written."""

    path: Path | None = None

    def add(self, row: str) -> None:
        """Puts it in the place of the fault's earlier row."""
        if self.path is None:
            return
        rows = {_name(line): line for line in self._kept()}
        rows[_name(row)] = row
        self.path.write_text(_PAGE + HEAD + "".join(rows.values()))

    def _kept(self) -> list[str]:
        if self.path is None or not self.path.exists():
            return []
        _, _, rows = self.path.read_text().partition(HEAD)
        return [line for line in rows.splitlines(keepends=True) if line.startswith("|")]


def row(expected: Expectation, figures: Figures, pace: str) -> str:
    """One line. `pace`: how the alert's times were, such as "real"."""
    broken = expected.broken(figures)
    cells = (
        expected.name,
        expected.what,
        f"`{expected.alert}` ({pace})" if expected.alert else "none",
        "" if figures.detected_s is None else f"{figures.detected_s:.0f}",
        str(figures.sent),
        ", ".join(f"{code} {count}" for code, count in figures.failed.items()) or "none",
        str(figures.with_fallbacks),
        f"{figures.slowest_s:.1f}",
        expected.mended,
        f"{figures.recovered_s:.1f}",
        f"no: {'; '.join(broken)}" if broken else "yes",
    )
    return f"| {' | '.join(cells)} |\n"


def _name(row: str) -> str:
    return row.split("|")[1].strip()

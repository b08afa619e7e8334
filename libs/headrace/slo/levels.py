"""How fast an error budget may burn before somebody is told: pairs of windows, after Google's SRE workbook (chapter 5) and sloth.

factor = share of the budget × period ÷ long window. For a period of 30 days: 2 % in 1 h is 14.4 times the even pace. Windows
grow and shrink with the period, so that shares and factors hold for every period.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Page: somebody must act now. Ticket: within days.
PAGE, TICKET = "page", "ticket"
# Two scrapes may be missed, and a rate needs two samples.
FLOOR_SCRAPES = 4
_HOUR = 3600.0
_DAY = 24 * _HOUR
PERIOD_S = 30 * _DAY


@dataclass(frozen=True, slots=True)
class Level:
    """Told if errors came at `factor` times the pace that uses up the budget within the period, over the last `long_s` and the
    last `short_s` seconds (the short one ends the alert soon after the errors end)."""

    factor: float
    severity: str
    long_s: float
    short_s: float

    @property
    def name(self) -> str:
        """Such as "14.4x"."""
        return f"{self.factor:g}x"

    def share(self, period_s: float) -> float:
        """Share of the period's budget that is used up when the alert begins."""
        return self.factor * self.long_s / period_s


# Pages before tickets, each the fastest first: while one fires, those behind it are not sent (a ticket must never hide a page).
# 2 and 1.1 are the seed's: they tell of slow damage earlier.
LEVELS = (
    Level(14.4, PAGE, _HOUR, 5 * 60),
    Level(6, PAGE, 6 * _HOUR, 30 * 60),
    Level(2, PAGE, 6 * _HOUR, 30 * 60),
    Level(3, TICKET, _DAY, 2 * _HOUR),
    Level(1.1, TICKET, 3 * _DAY, 6 * _HOUR),
    Level(1, TICKET, 3 * _DAY, 6 * _HOUR),
)


def levels(period_s: float, scrape_s: float) -> tuple[Level, ...]:
    """The levels for a period of `period_s` seconds. A short window holds at least four scrapes, a long one eight."""
    scale = period_s / PERIOD_S
    floor = FLOOR_SCRAPES * scrape_s
    return tuple(
        Level(
            level.factor,
            level.severity,
            max(round(level.long_s * scale), 2 * floor),
            max(round(level.short_s * scale), floor),
        )
        for level in LEVELS
    )


def windows(chosen: Iterable[Level]) -> list[float]:
    """All windows of the levels, in seconds, ascending."""
    return sorted({w for level in chosen for w in (level.long_s, level.short_s)})


def least_target() -> float:
    """The smallest promise for which every level can alert: if all requests fail, errors burn at 1 ÷ budget."""
    return 1 - 1 / max(level.factor for level in LEVELS)

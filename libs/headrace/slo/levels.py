"""How fast an error budget may burn before somebody is told: pairs of windows, after Google's SRE workbook (chapter 5) and sloth.

factor = share of the budget × period ÷ long window: 2 % of the budget of 30 days within 1 h is 14.4 times the even pace.
`rules.yml` has the same table in PromQL; a test compares both on the same counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Page: somebody must act now. Ticket: within days.
PAGE, TICKET = "page", "ticket"
_HOUR = 3600.0
_DAY = 24 * _HOUR
# A level needs so many bad requests in its long window: one error must not page for a service that nobody uses.
MIN_BAD = 10


@dataclass(frozen=True, slots=True)
class Level:
    """Reached if errors came at `factor` times the pace that uses up the budget within 30 days, over the last `long_s` and the
    last `short_s` seconds (the short one ends the alert soon after the errors end)."""

    factor: float
    severity: str
    long_s: float
    short_s: float

    @property
    def name(self) -> str:
        """Such as "14.4x"."""
        return f"{self.factor:g}x"


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
WINDOWS_S = tuple(sorted({w for level in LEVELS for w in (level.long_s, level.short_s)}))


@dataclass(frozen=True, slots=True)
class Count:
    """Requests that an objective counts, and how many of them were bad."""

    requests: float = 0.0
    bad: float = 0.0

    def burn(self, budget: float) -> float | None:
        """Times the pace that just uses up the budget, a share of the requests. None: there were no requests."""
        return self.bad / self.requests / budget if self.requests > 0 else None


def reached(budget: float, counts: Mapping[float, Count]) -> list[Level]:
    """The levels at which a budget burns. `counts`: of each of WINDOWS_S, by its seconds."""
    burns = {window: counts[window].burn(budget) or 0.0 for window in WINDOWS_S}
    return [
        level
        for level in LEVELS
        if min(burns[level.long_s], burns[level.short_s]) > level.factor
        and counts[level.long_s].bad >= MIN_BAD
    ]


def least_target() -> float:
    """The smallest target for which every level can alert: if all requests fail, errors burn at 1 ÷ budget."""
    return 1 - 1 / max(level.factor for level in LEVELS)

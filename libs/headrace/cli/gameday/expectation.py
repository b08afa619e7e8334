"""What a fault is, in words, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from headrace.cli.gameday.figures import Figures

# On a machine that others load, a few requests in a thousand come late without any fault: of a fault that costs nothing, too.
LATE = frozenset({"DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"})
FEW = 0.02
# How requests fail that need what is gone.
AWAY = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
# Rows that lack a feature now and then, as they do without a fault.
USUAL = ("features/",)


@dataclass(frozen=True, slots=True)
class Expectation:
    """`what`: is done; `mended`: what ends it. `alert` with some of its `labels` must come ("": none must).

    At most this is lost: requests fail with `codes` only, at most the share `most` of them; rows have fallbacks that begin with
    one of `fallbacks` only; `recovery_s` after it has ended, or, if it ends by itself, after its begin, all is as before.
    """

    name: str
    what: str
    mended: str
    alert: str
    labels: Mapping[str, str] = field(default_factory=dict)
    codes: frozenset[str] = frozenset()
    fallbacks: tuple[str, ...] = ()
    most: float = 1.0
    recovery_s: float = 60.0

    @classmethod
    def harmless(
        cls,
        name: str,
        what: str,
        mended: str,
        alert: str,
        labels: Mapping[str, str] = MappingProxyType({}),
        fallbacks: tuple[str, ...] = (),
    ) -> Expectation:
        """Of a fault for which no request must fail. `fallbacks`: that rows may have beside the usual ones."""
        return cls(name, what, mended, alert, dict(labels), LATE, (*USUAL, *fallbacks), FEW)

    def broken(self, figures: Figures) -> list[str]:
        """What did not come, or was worse; empty: all is as expected."""
        found = []
        if not figures.sent:
            found.append("no request was sent")
        if self.alert and figures.detected_s is None:
            found.append(f"{self.alert} was not told")
        if other := sorted(set(figures.failed) - self.codes):
            found.append(f"requests failed with {', '.join(other)}")
        if (share := sum(figures.failed.values()) / max(figures.sent, 1)) > self.most:
            found.append(f"{share:.1%} of the requests failed, not {self.most:.1%} at most")
        if strange := sorted(n for n in figures.fallbacks if not n.startswith(self.fallbacks or ("\0",))):
            found.append(f"rows had the fallbacks {', '.join(strange)}")
        if figures.recovered_s is None:
            found.append("it did not recover")
        elif figures.recovered_s > self.recovery_s:
            found.append(f"it recovered after {figures.recovered_s:.1f} s, not {self.recovery_s:g}")
        return found

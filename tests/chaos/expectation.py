"""What must come of a fault, and what it cost."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc

from tests.faults.traffic import Outcome

# On a machine that others load, a few requests in a thousand come late without any fault: of a fault that costs nothing, too.
LATE = frozenset({"DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"})
FEW = 0.02
# How requests fail that need what is gone.
AWAY = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
# Rows that lack a feature now and then, as they do without a fault.
USUAL = ("features/",)


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests of one row each, from the begin of the fault on. `failed`: by code; `fallbacks`: rows by fallback;
    `with_fallbacks`: rows with any. `detected_s`: from the begin to the alert, if one is expected; `recovered_s`: from the end
    (or, if it ends by itself, the begin) of the fault to the end of the last request that it hit."""

    sent: int
    failed: Mapping[str, int]
    fallbacks: Mapping[str, int]
    with_fallbacks: int
    slowest_s: float
    detected_s: float | None
    recovered_s: float


def counted(
    outcomes: Iterable[Outcome], *, begun: float, mended: float, detected: float | None = None
) -> Figures:
    """The sums of what began since `begun`. Times: monotonic seconds."""
    found = [o for o in outcomes if o.began >= begun]
    failed = Counter(o.code.name for o in found if o.code is not grpc.StatusCode.OK)
    hit = [o.began + o.took for o in found if o.code is not grpc.StatusCode.OK or o.fallbacks]
    return Figures(
        sent=len(found),
        failed=dict(failed.most_common()),
        fallbacks=Counter(name for o in found for name in set(o.fallbacks)),
        with_fallbacks=sum(bool(o.fallbacks) for o in found),
        slowest_s=max((o.took for o in found), default=0.0),
        detected_s=None if detected is None else detected - begun,
        recovered_s=max(max(hit, default=mended) - mended, 0.0),
    )


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
    codes: frozenset[str] = AWAY
    fallbacks: tuple[str, ...] = USUAL
    most: float = 1.0
    recovery_s: float = 60.0

    def broken(self, figures: Figures) -> list[str]:
        """What was worse; empty: all is as expected."""
        share = sum(figures.failed.values()) / max(figures.sent, 1)
        other = sorted(set(figures.failed) - self.codes)
        strange = sorted(n for n in figures.fallbacks if not n.startswith(self.fallbacks))
        worse = {
            "no request was sent": not figures.sent,
            f"requests failed with {', '.join(other)}": other,
            f"{share:.1%} of the requests failed, not {self.most:.1%} at most": share > self.most,
            f"rows had the fallbacks {', '.join(strange)}": strange,
            f"it recovered after {figures.recovered_s:.1f} s, not {self.recovery_s:g}": (
                figures.recovered_s > self.recovery_s
            ),
        }
        return [words for words, holds in worse.items() if holds]

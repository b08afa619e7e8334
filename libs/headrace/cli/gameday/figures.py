"""What a fault cost: how each request ended, and the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

OK = "OK"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that ended. `began`: monotonic s; `took`: s; `code`: name of its status; `fallbacks`: of its row."""

    began: float
    took: float
    code: str
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests of one row each, from the begin of the fault until all was well again. `failed`: by code; `fallbacks`: rows by
    fallback; `with_fallbacks`: rows with any. `detected_s`: from the begin to the alert; `recovered_s`: from the end (or, if it
    ends by itself, the begin) of the fault to the end of the last request that it hit; None: it did not come."""

    sent: int
    failed: Mapping[str, int]
    fallbacks: Mapping[str, int]
    with_fallbacks: int
    slowest_s: float
    detected_s: float | None
    recovered_s: float | None

    def sentence(self) -> str:
        """For people."""
        lost = ", ".join(f"{code} {count}" for code, count in self.failed.items())
        parts = [f"{self.sent} requests, {sum(self.failed.values())} failed{f' ({lost})' if lost else ''}"]
        if self.with_fallbacks:
            parts.append(f"{self.with_fallbacks} answered with a fallback")
        if self.detected_s is not None:
            parts.append(f"alert after {self.detected_s:.0f} s")
        if self.recovered_s is not None:
            parts.append(f"well again after {self.recovered_s:.1f} s")
        return "; ".join(parts)

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def counted(
    requests: Iterable[Request],
    *,
    begun: float,
    mended: float,
    detected: float | None,
    recovered: bool,
    usual: frozenset[str] = frozenset(),
) -> Figures:
    """The sums of what began since `begun`. Times: monotonic seconds. `usual`: fallbacks that rows have without a fault."""
    found = [r for r in requests if r.began >= begun]
    failed = Counter(r.code for r in found if r.code != OK)
    own = [set(r.fallbacks) - usual for r in found]
    hit = [r.began + r.took for r, names in zip(found, own, strict=True) if r.code != OK or names]
    return Figures(
        sent=len(found),
        failed=dict(failed.most_common()),
        fallbacks=dict(Counter(name for names in own for name in names).most_common()),
        with_fallbacks=sum(map(bool, own)),
        slowest_s=max((r.took for r in found), default=0.0),
        detected_s=None if detected is None else detected - begun,
        recovered_s=max(max(hit, default=mended) - mended, 0.0) if recovered else None,
    )

"""When a version is worse than another: pure functions of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from load.generator.closed_loop import Figures

# By kind of request: calls of Python, calls of C.
Counts: TypeAlias = "Mapping[str, list[int]]"
# Requests at once form batches in which threads take part, so that equal code differs by some calls.
NEARLY = 1.005
_CPU = 1.05
_FIGURES: dict[str, Callable[[Figures], float]] = {
    "CPU µs/request": lambda f: f.server_us,
    "p50 µs": lambda f: f.p50_us,
    "p99 µs": lambda f: f.p99_us,
}


def worse_counts(base: Counts, new: Counts) -> list[str]:
    """What has grown: single requests to the call, requests at once beyond what equal code differs by."""
    return [
        f"{kind}: {now} calls of {language}, {before} before"
        for kind in base
        for language, before, now in zip(("Python", "C"), base[kind], new[kind], strict=True)
        if now > before * (NEARLY if kind.endswith("requests") else 1)
    ]


def worse_figures(
    at_once: int, base: Sequence[Figures], again: Sequence[Figures], new: Sequence[Figures]
) -> list[str]:
    """CPU beyond 5 % (median of the pairs), latency beyond the spread of two equal builds, failed requests. Prints each line."""
    worse = []
    for name, of in _FIGURES.items():
        equal, ratios = _ratios(again, base, of), _ratios(new, base, of)
        spread = max(max(ratio, 1 / ratio) for ratio in equal)
        ratio, limit = statistics.median(ratios), _CPU if name.startswith("CPU") else spread
        text = (
            f"c={at_once} {name}: {statistics.median(map(of, new)):.0f}, base {statistics.median(map(of, base)):.0f};"
            f" {_told(ratios)}, at most {limit:.3f}; equal builds {_told(equal)}"
        )
        print(text, flush=True)
        worse += [text] if not ratio <= limit else []
    if failed := sum(figures.failed for figures in new):
        worse.append(f"c={at_once}: {failed} requests failed")
    return worse


def _ratios(
    these: Sequence[Figures], those: Sequence[Figures], of: Callable[[Figures], float]
) -> list[float]:
    return [of(this) / of(that) for this, that in zip(these, those, strict=True)]


def _told(ratios: Sequence[float]) -> str:
    return f"× {statistics.median(ratios):.3f} [{min(ratios):.3f}–{max(ratios):.3f}]"

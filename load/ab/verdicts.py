"""When a version is worse than another: pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# By kind of request: calls of Python, calls of C.
Counts: TypeAlias = "Mapping[str, list[int]]"
# Requests at once form batches in which threads take part, so that equal code differs by some calls.
_NEARLY = 1.005
_RESAMPLES = 4000
_SURE = 99.5


def worse_counts(base: Counts, new: Counts) -> list[str]:
    """What has grown: single requests to the call, requests at once beyond what equal code differs by."""
    return [
        f"{kind}: {now} calls of {language}, {before} before"
        for kind in base
        for language, before, now in zip(("Python", "C"), base[kind], new[kind], strict=True)
        if now > before * (_NEARLY if kind.endswith("requests") else 1)
    ]


def worse_pairs(what: str, measured: Mapping[str, Sequence[float]], tolerated: float) -> list[str]:
    """A line if the median of the pairs' ratios is greater than tolerated, and than medians of two equal builds may be.

    `measured`: of `base`, of `again` (a second system of the base) and of `new`. Prints the line in each case.
    """
    base, again, new = (np.array(measured[name]) for name in ("base", "again", "new"))
    equal, ratios = again / base, new / base
    limit = max(tolerated, _spread(equal))
    line = (
        f"{what}: {np.median(new):.0f}, base {np.median(base):.0f}; {_text(ratios)}, at most {limit:.3f};"
        f" equal builds {_text(equal)}"
    )
    print(line, flush=True)
    return [line] if not np.median(ratios) <= limit else []


def _spread(equal: NDArray[np.float64]) -> float:
    """What the median of as many ratios of equal builds hardly ever exceeds, by resampling; either build may be the slower."""
    both = np.concatenate([equal, 1 / equal])
    samples = np.random.default_rng(0).choice(both, (_RESAMPLES, len(equal)))
    return float(np.percentile(np.median(samples, axis=1), _SURE))


def _text(ratios: NDArray[np.float64]) -> str:
    return f"× {np.median(ratios):.3f} [{ratios.min():.3f}–{ratios.max():.3f}]"

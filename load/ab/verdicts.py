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
# Percentile of what the pairs of two equal builds differ by. Medians of nine pairs exceed it in 2 of 1,000 comparisons of
# equal code, whether the noise is 2 % or 30 %; worse by 8 % at a noise of 2 % is found in 98 of 100.
_SPREAD = 90


def worse_counts(base: Counts, new: Counts) -> list[str]:
    """What has grown: single requests to the call, requests at once beyond what equal code differs by."""
    return [
        f"{kind}: {now} calls of {language}, {before} before"
        for kind in base
        for language, before, now in zip(("Python", "C"), base[kind], new[kind], strict=True)
        if now > before * (_NEARLY if kind.endswith("requests") else 1)
    ]


def worse_pairs(
    what: str, measured: Mapping[str, Sequence[float]], tolerated: float, *, sure: bool = False
) -> list[str]:
    """A line if the median of the pairs' ratios is greater than tolerated, and than the spread of two equal builds.

    With `sure` also where equal builds differ by more than is tolerated, as then nobody knows.
    `measured`: of `base`, of `again` (a second system of the base) and of `new`. Prints the line in each case.
    """
    base, again, new = (np.array(measured[name]) for name in ("base", "again", "new"))
    # NaN: nothing was answered in that round. Where that is so of the base, the machine did something else.
    told = np.isfinite(base) & np.isfinite(again)
    base, again, new = base[told], again[told], np.nan_to_num(new, nan=np.inf)[told]
    if not len(base):
        return [f"{what}: nothing was answered"]
    equal, ratios = again / base, new / base
    limit = max(tolerated, float(np.percentile(np.maximum(equal, 1 / equal), _SPREAD)))
    line = (
        f"{what}: {np.median(new):.0f}, base {np.median(base):.0f}; {_text(ratios)}, at most {limit:.3f};"
        f" equal builds {_text(equal)}"
    )
    print(line, flush=True)
    if np.median(ratios) <= limit <= (tolerated if sure else np.inf):
        return []
    return [line if np.median(ratios) > limit else f"not told, as equal builds differ too much: {line}"]


def _text(ratios: NDArray[np.float64]) -> str:
    return f"× {np.median(ratios):.3f} [{ratios.min():.3f}–{ratios.max():.3f}]"

"""When a version is worse than another: pure functions of what was measured."""

from __future__ import annotations

import math
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
# Relative standard error of a median that tells a growth of 8 % from one of 5 % in 98 of 100 comparisons.
_SURE = 0.0125
# Times that: medians of equal builds differ by more in 1 of 100 comparisons.
_EQUAL = 2.6


def worse_counts(base: Counts, new: Counts) -> list[str]:
    """What has grown: single requests to the call, requests at once beyond what equal code differs by."""
    return [
        f"{kind}: {now} calls of {language}, {before} before"
        for kind in base
        for language, before, now in zip(("Python", "C"), base[kind], new[kind], strict=True)
        if now > before * (_NEARLY if kind.endswith("requests") else 1)
    ]


def worse_pairs(what: str, measured: Mapping[str, Sequence[float]], tolerated: float) -> list[str]:
    """A line if the median of the pairs' ratios is greater than tolerated, and than the spread of two equal builds.

    `measured`: of `base`, of `again` (a second system of the base) and of `new`. Prints the line in each case.
    """
    if not (compared := _ratios(measured)):
        return [f"{what}: nothing was answered"]
    equal, ratios = compared
    limit = max(tolerated, float(np.percentile(np.maximum(equal, 1 / equal), _SPREAD)))
    line = _summary(what, measured, f"{_text(ratios)}, at most {limit:.3f}; equal builds {_text(equal)}")
    return [line] if np.median(ratios) > limit else []


def worse_median(what: str, measured: Mapping[str, Sequence[float]], tolerated: float) -> list[str]:
    """As `worse_pairs`, of so many pairs that noise is no excuse: a line too if the pairs do not tell, or equal builds differ."""
    if not (compared := _ratios(measured)):
        return [f"{what}: nothing was answered"]
    equal, ratio = (float(np.median(each)) for each in compared)
    line = _summary(what, measured, f"× {ratio:.3f}, at most {tolerated}; equal builds × {equal:.3f}")
    if ratio > tolerated:
        return [line]
    told = sure(measured) and max(equal, 1 / equal) <= 1 + _EQUAL * _SURE
    return [] if told else [f"not told, as equal builds differ too much: {line}"]


def sure(measured: Mapping[str, Sequence[float]]) -> bool:
    """Whether there are enough pairs for `worse_median`."""
    return all(_error(each) <= _SURE for each in _ratios(measured))


def _ratios(measured: Mapping[str, Sequence[float]]) -> tuple[NDArray[np.float64], ...]:
    """Of each pair: the second system of the base, and the new version, to the base. Empty if nothing was answered."""
    base, again, new = (np.array(measured[name]) for name in ("base", "again", "new"))
    # NaN: nothing was answered in that round. Where that is so of the base, the machine did something else.
    told = np.isfinite(base) & np.isfinite(again)
    return (again[told] / base[told], np.nan_to_num(new[told], nan=np.inf) / base[told]) if told.any() else ()


def _error(ratios: NDArray[np.float64]) -> float:
    """Relative standard error of the median: √(π/2) σ/√n, as of a normal distribution; σ by the median deviation × 1.4826."""
    deviation = float(np.median(np.abs(ratios / np.median(ratios) - 1)))
    return math.sqrt(math.pi / 2 / len(ratios)) * 1.4826 * deviation


def _summary(what: str, measured: Mapping[str, Sequence[float]], found: str) -> str:
    """A line with the medians in front; it is printed too."""
    new, base = (np.median(np.nan_to_num(measured[name], nan=np.inf)) for name in ("new", "base"))
    line = f"{what}: {new:.0f}, base {base:.0f}; {found}"
    print(line, flush=True)
    return line


def _text(ratios: NDArray[np.float64]) -> str:
    return f"× {np.median(ratios):.3f} [{ratios.min():.3f}–{ratios.max():.3f}]"

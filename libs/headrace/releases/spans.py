"""Which points of [0, 1) each arm of a release holds. A key is hashed to a point, and so to an arm.

An arm has a fixed start and holds the points from there up to its weight, so a growing weight moves nobody back and leaves the
other arms alone. An arm that outgrows its room (it ends where the next arm starts) goes on at the far ends of the other
rooms. With one or two arms beside `live` these never meet; with more, they meet only when the weights are nearly
used up, and then the arm that has its start there keeps the points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The arm whose document the ingress shows and checks requests against; there always is one.
LIVE = "live"
# Weights are sums of decimal fractions. A span as short as their error would be a hole for one request in a billion.
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Span:
    """Points from `start` (included) to `stop` (not included) of `arm`."""

    start: float
    stop: float
    arm: str


def placed(weights: Mapping[str, float], starts: Mapping[str, float]) -> dict[str, float]:
    """The start of each arm of `weights` but `live`: that of `starts`, or one amid the widest room between all starts."""
    arms = sorted(arm for arm in weights if arm != LIVE)
    if not starts:
        return {arm: i / len(arms) for i, arm in enumerate(arms)}
    given = dict(starts)
    for arm in arms:
        if arm not in given:
            given[arm] = _amid_widest_room(sorted(given.values()))
    return {arm: given[arm] for arm in arms}


def _amid_widest_room(starts: list[float]) -> float:
    ends = [*starts[1:], starts[0] + 1]
    start, end = max(zip(starts, ends, strict=True), key=lambda room: room[1] - room[0])
    return (start + end) / 2 % 1


def spans_of(weights: Mapping[str, float], starts: Mapping[str, float]) -> list[Span]:
    """The spans, ascending and disjoint. `starts`: of every arm of `weights` but `live`."""
    rooms = sorted((at, arm) for arm, at in starts.items())
    ends = [at for at, _ in rooms[1:]] + [rooms[0][0] + 1] if rooms else []
    held: list[tuple[float, float, str]] = []
    free: list[list[float]] = []
    surplus: list[float] = []
    for (start, arm), end in zip(rooms, ends, strict=True):
        own = min(weights[arm], end - start)
        held.append((start, start + own, arm))
        free.append([start + own, end])
        surplus.append(weights[arm] - own)
    for i, (_, arm) in enumerate(rooms):
        for room in free[i + 1 :] + free[:i]:
            taken = min(surplus[i], room[1] - room[0])
            if taken > 0:
                held.append((room[1] - taken, room[1], arm))
                room[1] -= taken
                surplus[i] -= taken
    return _tidy([part for span in held for part in _within_one(*span)])


def _within_one(start: float, stop: float, arm: str) -> list[Span]:
    """A span of the circle as spans of [0, 1)."""
    if start >= 1:
        return [Span(start - 1, stop - 1, arm)]
    return [Span(start, stop, arm)] if stop <= 1 else [Span(start, 1.0, arm), Span(0.0, stop - 1, arm)]


def _tidy(spans: list[Span]) -> list[Span]:
    """Sorted, without tiny spans, and without tiny holes between two, at 0 and at 1."""
    found: list[Span] = []
    end = 0.0
    for span in sorted(spans, key=lambda s: s.start):
        if span.stop - span.start <= _TINY:
            continue
        start = end if span.start - end <= _TINY else span.start
        found.append(Span(start, span.stop, span.arm))
        end = span.stop
    if found and 1 - end <= _TINY:
        found[-1] = Span(found[-1].start, 1.0, found[-1].arm)
    return found

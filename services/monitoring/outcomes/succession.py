"""Is what is live now wrong more often than what was live before it? For a bad version whose outcomes came after its rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.analysis import Count, lower_bound, upper_bound
from headrace.releases import LIVE, Release
from services.monitoring.outcomes.records import Judged

# How sure an alert must be, at all looks together, and how much more often is still the same.
ALPHA = 1e-3
MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class Succession:
    """Judged predictions of today's live arm (`now`) and of the live arm before it. `release`: since when today's is live."""

    release: int
    now: Count
    before: Count

    def worse(self, alpha: float = ALPHA, margin: float = MARGIN) -> bool:
        """Whether today's rate of wrong predictions exceeds `margin` times the one before.

        Both bounds hold at every look at once with probability 1 − `alpha`/2 (`headrace.analysis.bounds`), so that it may be
        asked as often as one likes: P(ever a false alarm) ≤ `alpha`.
        """
        if not self.now.rows or not self.before.rows:
            return False
        return lower_bound(self.now, alpha / 2) > min(margin * upper_bound(self.before, alpha / 2), 1.0)


def live_spans(history: Sequence[Release]) -> tuple[set[int], set[int]]:
    """Numbers of the releases (newest first) with the live arm of today, and of those with the one before it, as far back as it
    was the same."""
    live = history[0].live
    since: set[int] = set()
    before: set[int] = set()
    older = None
    for release in history:
        if not before and release.live == live:
            since.add(release.number)
            continue
        older = older or release.live
        if release.live != older:
            break
        before.add(release.number)
    return since, before


def succession(history: Sequence[Release], judged: Mapping[tuple[int, str], Judged]) -> Succession:
    """`history`: releases, newest first, at least one. `judged`: (release, arm) → predictions of which outcomes tell.

    A version that came by a rollout was judged as an arm of its own, too; those predictions count for it.
    """
    since, before = live_spans(history)
    arms = {r.number: _arms_like(r, history[0]) for r in history if r.number not in since}
    now = [j for (number, arm), j in judged.items() if number in since and arm == LIVE]
    now += [j for (number, arm), j in judged.items() if arm in arms.get(number, ())]
    old = [j for (number, arm), j in judged.items() if number in before and arm == LIVE]
    return Succession(min(since), _sum(now), _sum(old))


def _arms_like(release: Release, newest: Release) -> set[str]:
    """Arms beside the live one that ran what is live today."""
    return {name for name, arm in release.arms.items() if name != LIVE and arm == newest.live}


def _sum(found: Sequence[Judged]) -> Count:
    return Count(sum(j.rows for j in found), sum(j.wrong for j in found))

"""How old the feature values are that predictions get, view by view, against what the pipeline's document allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column
from headrace.events import GroupHeader
from services.monitoring.console.facts import words
from services.monitoring.console.ports import Level, Panel, PanelRow
from services.monitoring.console.reach import Reach
from services.monitoring.console.requests.predictions import AGE, SOURCE, SOURCES
from services.monitoring.console.requests.views import View, Views

# Views of all pipelines that are remembered, and how long what was seen counts: between one and two windows.
_VIEWS = 512
_WINDOW_S = 150.0
# Ages are counted in bins that are a quarter of an octave wide: a quantile is wrong by at most 19 %.
_BINS, _PER_OCTAVE = 256, 4
_QUANTILE = 0.95
_PRESENT, _NOT_FOUND, _STALE = 1, 2, 4
# A few rows of entities that nobody feeds any more are no alarm.
_FEW = 0.01
_SOURCES = max(SOURCES) + 1


@dataclass(slots=True)
class _Seen:
    """What was seen of one view. `sources`: rows by source; `ages`: rows by bin."""

    sources: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_SOURCES, np.int64))
    ages: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    oldest_us: int = -1

    def plus(self, other: _Seen) -> _Seen:
        return _Seen(
            self.sources + other.sources, self.ages + other.ages, max(self.oldest_us, other.oldest_us)
        )

    def add(self, sources: NDArray[np.generic], ages_us: NDArray[np.int64]) -> None:
        counted = np.bincount(np.minimum(sources.astype(np.int64), _SOURCES - 1), minlength=_SOURCES)
        self.sources += counted
        known = ages_us[ages_us >= 0]
        if len(known):
            self.ages += np.bincount(_bins(known), minlength=_BINS)
            self.oldest_us = max(self.oldest_us, int(known.max()))


@dataclass(slots=True)
class _Windows:
    """The window that is filled now, and the one before it."""

    revision: str
    began: float
    now: _Seen = field(default_factory=_Seen)
    before: _Seen = field(default_factory=_Seen)


class Freshness:
    """An observer of events (`services.monitoring.events.ports.EventObserver`): counts ages and sources."""

    def __init__(self) -> None:
        self._views: OrderedDict[tuple[str, str], _Windows] = OrderedDict()

    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        """See EventObserver. Copies that nobody waits for and replays say nothing of what callers get."""
        if header.replayed or header.shadow_of:
            return
        for name, sources in columns.items():
            if name.startswith(SOURCE):
                view = name.removeprefix(SOURCE)
                ages = columns.get(AGE + view)
                if ages is not None:
                    self._of(header, view, now).now.add(sources.array, ages.array.astype(np.int64))

    def seen(self, pipeline: str, now: float) -> tuple[str, dict[str, _Seen]]:
        """The newest revision, and what was seen of each view in the last minutes."""
        revision, found = "", {}
        for (name, view), windows in self._views.items():
            if name == pipeline and now - windows.began < 2 * _WINDOW_S:
                recent = windows.before if now - windows.began < _WINDOW_S else _Seen()
                found[view] = windows.now.plus(recent)
                revision = windows.revision
        return revision, found

    def _of(self, header: GroupHeader, view: str, now: float) -> _Windows:
        key = (header.pipeline, view)
        windows = self._views.get(key)
        if windows is None:
            windows = self._views[key] = _Windows(header.revision, now)
            if len(self._views) > _VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        windows.revision = header.revision
        if now - windows.began >= _WINDOW_S:
            gone = now - windows.began >= 2 * _WINDOW_S
            windows.before, windows.now, windows.began = (_Seen() if gone else windows.now), _Seen(), now
        return windows


class FreshnessPanel:
    """A `PanelSource`."""

    def __init__(self, freshness: Freshness, views: Views, reach: Reach) -> None:
        self._freshness = freshness
        self._views = views
        self._reach = reach

    async def __call__(self, pipeline: str) -> Panel | None:
        revision, seen = self._freshness.seen(pipeline, self._reach.wall())
        if not seen:
            return None
        features = await self._reach.run(partial(self._views.of, pipeline, revision))
        limits = {view.name: view for view in features.values()}
        rows = [_row(name, one, limits.get(name)) for name, one in sorted(seen.items())]
        return _panel(rows, {name: _data(one, limits.get(name)) for name, one in sorted(seen.items())})


def _panel(rows: Sequence[PanelRow], data: Mapping[str, Any]) -> Panel:
    bad, watched = ([r.label for r in rows if r.level == level] for level in ("bad", "watch"))
    if bad:
        said, level = f"Too old, or not to be had: {', '.join(bad)}.", "bad"
    elif watched:
        said, level = f"Older than it should be: {', '.join(watched)}.", "watch"
    else:
        said, level = "All views are as fresh as the document wants.", "good"
    said += " Ages of the last minutes; 95 % of the rows have younger values."
    return Panel("Freshness of features", said, rows, level, {"views": data})  # type: ignore[arg-type]  # one of Level


def _row(view: str, seen: _Seen, limit: View | None) -> PanelRow:
    age_s, max_age_s = _age_s(seen), limit.max_age_s if limit else None
    value = "no values" if age_s is None else words.age(age_s)
    if max_age_s:
        value += f" of {words.age(max_age_s)}"
    share = None if age_s is None or not max_age_s else min(age_s / max_age_s, 1.0)
    return PanelRow(view, value, _note(seen, limit), share, _level(seen))


def _note(seen: _Seen, limit: View | None) -> str:
    rows = int(seen.sources.sum())
    parts = [
        f"{words.share(int(n) / rows)} {SOURCES[i]}"
        for i, n in enumerate(seen.sources.tolist())
        if n and i in SOURCES and i != _PRESENT
    ]
    told = ", ".join(parts) if parts else f"all of {words.plural(rows, 'row')} present"
    return told if limit is None or limit.max_age_s else f"{told}; as old as its time to live allows"


def _level(seen: _Seen) -> Level:
    rows = int(seen.sources.sum()) or 1
    fresh = int(seen.sources[_PRESENT] + seen.sources[_NOT_FOUND])
    stale = int(seen.sources[_STALE])
    if rows - fresh - stale > _FEW * rows:
        return "bad"
    return "watch" if rows - fresh > _FEW * rows else "good"


def _data(seen: _Seen, limit: View | None) -> dict[str, Any]:
    return {
        "rows": {SOURCES[i]: int(n) for i, n in enumerate(seen.sources.tolist()) if i in SOURCES},
        "age_p95_s": _age_s(seen),
        "oldest_s": seen.oldest_us / 1e6 if seen.oldest_us >= 0 else None,
        "max_age_s": limit.max_age_s if limit else None,
        "stale_s": limit.stale_s if limit else None,
    }


def _age_s(seen: _Seen) -> float | None:
    """The upper end of the quantile's bin, or the oldest if that is less. None: no age is known."""
    total = int(seen.ages.sum())
    if not total:
        return None
    place = int(np.searchsorted(np.cumsum(seen.ages), _QUANTILE * total))
    upper: float = 2.0 ** ((place + 1) / _PER_OCTAVE) - 1
    return min(upper, float(seen.oldest_us)) / 1e6


def _bins(ages_us: NDArray[np.int64]) -> NDArray[np.int64]:
    place = np.floor(np.log2(ages_us + 1.0) * _PER_OCTAVE).astype(np.int64)
    last = np.int64(_BINS - 1)
    return np.where(place < last, place, last)

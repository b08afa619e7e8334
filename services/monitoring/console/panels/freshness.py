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

# Views of all pipelines that are remembered; of each the newest rows count, for so long.
_VIEWS, _ROWS = 512, 4096
_WINDOW_S = 300.0
_QUANTILE = 0.95
_PRESENT, _NOT_FOUND, _STALE = 1, 2, 4
# A few rows of entities that nobody feeds any more are no alarm.
_FEW = 0.01
_SOURCES = max(SOURCES) + 1
_ROW = np.dtype([("at", np.float64), ("source", np.int64), ("age_us", np.int64)])


@dataclass(slots=True)
class _Ring:
    """The newest rows of one view; those with `at` 0 are not filled yet."""

    revision: str = ""
    rows: NDArray[np.void] = field(default_factory=lambda: np.zeros(_ROWS, _ROW))
    end: int = 0

    def add(self, at: float, sources: NDArray[np.generic], ages_us: NDArray[np.generic]) -> None:
        count = min(len(ages_us), _ROWS)
        place = np.arange(self.end, self.end + count) % _ROWS
        self.rows["at"][place] = at
        self.rows["source"][place] = np.minimum(sources[-count:], _SOURCES - 1)
        self.rows["age_us"][place] = ages_us[-count:]
        self.end = (self.end + count) % _ROWS


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of one view. `sources`: rows by source; `ages_us`: those that are known."""

    sources: NDArray[np.int64]
    ages_us: NDArray[np.int64]


class Freshness:
    """An observer of events (`services.monitoring.events.ports.EventObserver`): keeps ages and sources of the newest rows."""

    def __init__(self) -> None:
        self._views: OrderedDict[tuple[str, str], _Ring] = OrderedDict()

    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        """See EventObserver. Copies that nobody waits for and replays say nothing of what callers get."""
        if header.replayed or header.shadow_of:
            return
        for name, sources in columns.items():
            view = name.removeprefix(SOURCE)
            if name.startswith(SOURCE) and (ages := columns.get(AGE + view)) is not None and len(ages.array):
                key = (header.pipeline, view)
                ring = self._views[key] = self._views.get(key) or _Ring()
                self._views.move_to_end(key)
                ring.revision = header.revision
                ring.add(now, sources.array, ages.array)
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)

    def seen(self, pipeline: str, now: float) -> tuple[str, dict[str, _Seen]]:
        """The newest revision, and what was seen of each view in the last minutes."""
        revision, found = "", {}
        for (name, view), ring in self._views.items():
            rows = ring.rows[ring.rows["at"] > max(now - _WINDOW_S, 0.0)]
            if name == pipeline and len(rows):
                ages = rows["age_us"]
                found[view] = _Seen(np.bincount(rows["source"], minlength=_SOURCES), ages[ages >= 0])
                revision = ring.revision
        return revision, found


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
        "oldest_s": float(seen.ages_us.max()) / 1e6 if len(seen.ages_us) else None,
        "max_age_s": limit.max_age_s if limit else None,
        "stale_s": limit.stale_s if limit else None,
    }


def _age_s(seen: _Seen) -> float | None:
    """None: no age is known."""
    if not len(seen.ages_us):
        return None
    return float(np.quantile(seen.ages_us, _QUANTILE, method="inverted_cdf")) / 1e6

"""How old the feature values are that predictions get, by view and by key, against what the pipeline's document allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from headrace.events import TIME_US, GroupHeader
from services.monitoring.console.facts import words
from services.monitoring.console.ports import Level, Panel, PanelRow
from services.monitoring.console.requests.predictions import AGE, SOURCE, SOURCES
from services.monitoring.console.requests.views import View, Views
from services.monitoring.events.store import EventStore

_WINDOW_S = 300.0
# A few rows of entities that nobody feeds any more are no alarm.
_FEW = 0.01
_KEYS = 5
_TEXT = "'"
_PRESENT, _NOT_FOUND, _STALE = 1, 2, 4
_COUNTS = ", ".join(f"count(*) FILTER (source = {s}) AS s{s}" for s in SOURCES)
# Of each view a row as a whole, and one of each of the keys that most rows have. Events of requests that failed before
# their features have no columns of them.
_AGES = f"""
WITH whole_events AS (FROM events WHERE "{TIME_US}" >= $1 UNION ALL BY NAME (SELECT {{absent}} LIMIT 0))
FROM ({{parts}})
SELECT view, key, grouping(key) = 1 AS whole, count(*) AS rows, {_COUNTS},
    quantile_disc(age, 0.95) FILTER (age >= 0) / 1e6 AS p95_s, max(age) FILTER (age >= 0) / 1e6 AS oldest_s
GROUP BY GROUPING SETS ((view), (view, key))
HAVING grouping(key) = 1 OR key IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY view, grouping(key) ORDER BY count(*) DESC, key) <= {_KEYS}
ORDER BY view, whole DESC, rows DESC, key
"""  # noqa: S608 - of names and numbers of this program
Row: TypeAlias = Mapping[str, Any]


def freshness(store: EventStore, pipeline: str, now: float, views: Views) -> Panel | None:
    """A question of `registry.py`, about the last minutes of the newest release that has answered: other documents may have other
    views of the same names."""
    first_us = int((now - _WINDOW_S) * 1e6)
    headers = [h for h in store.headers(pipeline, first_us) if _answers(h)]
    if not headers:
        return None
    newest = max(headers, key=lambda h: h.release)
    found = {view.name: view for view in views.of(pipeline, newest.revision).values()}
    if not found:
        return None
    parts = " UNION ALL ".join(_part(view, newest) for view in found.values())
    absent = ", ".join(f"NULL::BIGINT AS {_quoted(one + name)}" for name in found for one in (AGE, SOURCE))
    rows, _ = store.ask(
        _AGES.format(parts=parts, absent=absent),
        [first_us],
        pipeline,
        first_us,
        lambda h: _answers(h) and h.revision == newest.revision,
    )
    return _panel(found, rows.to_pylist()) if rows.num_rows else None


def _answers(header: GroupHeader) -> bool:
    """Copies that nobody waits for and replays say nothing of what callers get."""
    return not (header.replayed or header.shadow_of)


def _part(view: View, header: GroupHeader) -> str:
    """SQL: the ages of a view, with the key; of personal data there is none."""
    shown = set(header.inputs) - {*header.masked, *header.omitted}
    names = [_quoted(name) for name in view.entities]
    key = f"concat_ws(' · ', {', '.join(names)})" if names and shown.issuperset(view.entities) else "NULL"
    source, age = _quoted(SOURCE + view.name), _quoted(AGE + view.name)
    columns = f"{_quoted(view.name, _TEXT)} AS view, {key}::VARCHAR AS key, {source} AS source, {age} AS age"
    return f"FROM whole_events SELECT {columns} WHERE source IS NOT NULL"


def _quoted(name: str, mark: str = '"') -> str:
    return mark + name.replace(mark, 2 * mark) + mark


def _panel(views: Mapping[str, View], found: Sequence[Row]) -> Panel:
    rows = [_row(one, views[one["view"]]) for one in found]
    told = [row for row, one in zip(rows, found, strict=True) if one["whole"]]
    bad, watched = ([r.label for r in told if r.level == level] for level in ("bad", "watch"))
    said, level = "All views are as fresh as the document wants.", "good"
    if bad:
        said, level = f"Too old, or not to be had: {', '.join(bad)}.", "bad"
    elif watched:
        said, level = f"Older than it should be: {', '.join(watched)}.", "watch"
    said += " Ages of the last minutes; 95 % of the rows have younger values. Below each view, its most frequent keys."
    data = {one["view"]: _data(one, views[one["view"]]) for one in found if one["whole"]}
    return Panel("Freshness of features", said, rows, level, {"views": data})  # type: ignore[arg-type]  # one of Level


def _row(found: Row, view: View) -> PanelRow:
    age_s, most_s = found["p95_s"], view.max_age_s
    value = "no values" if age_s is None else words.age(age_s)
    if most_s:
        value += f" of {words.age(most_s)}"
    rows = words.plural(found["rows"], "row")
    parts = [
        f"{words.share(found[f's{s}'] / found['rows'])} {name}"
        for s, name in SOURCES.items()
        if found[f"s{s}"] and s != _PRESENT
    ]
    note = ", ".join(parts) if parts else f"all of {rows} present"
    if found["whole"] and not most_s:
        note += "; as old as its time to live allows"
    label = view.name if found["whole"] else f"{view.name} · {found['key']}"
    share = None if age_s is None or not most_s else min(age_s / most_s, 1.0)
    return PanelRow(label, value, note, share, _level(found))


def _level(found: Row) -> Level:
    rows, fresh = found["rows"], found[f"s{_PRESENT}"] + found[f"s{_NOT_FOUND}"]
    if rows - fresh - found[f"s{_STALE}"] > _FEW * rows:
        return "bad"
    return "watch" if rows - fresh > _FEW * rows else "good"


def _data(found: Row, view: View) -> dict[str, Any]:
    return {
        "rows": {name: found[f"s{s}"] for s, name in SOURCES.items()},
        "age_p95_s": found["p95_s"],
        "oldest_s": found["oldest_s"],
        "max_age_s": view.max_age_s,
        "stale_s": view.stale_s,
    }

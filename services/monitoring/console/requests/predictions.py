"""An event of a prediction as a page shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.monitoring.console.facts import words
from services.monitoring.console.requests.views import View
from services.monitoring.explanations.records import ShownExplanation
from services.monitoring.outcomes.records import Outcome

AGE, SOURCE = "@age_us/", "@source/"
# As headrace.api.features.v1.Source numbers them.
SOURCES = {1: "present", 2: "not found", 3: "outside max_age", 4: "stale", 5: "default"}
_MICRO = 1e-6
# Longer values (pictures, vectors) are cut; `headrace events show` has them whole.
_TEXT = 200
# What a page shows of an event as it is.
_SAME = (
    *("prediction_id", "event_id", "row", "pipeline", "version", "revision", "release", "arm", "experiment"),
    *("shadow_of", "replayed", "models", "code", "reason", "cached", "fallbacks", "omitted"),
)


def shown(event: Mapping[str, Any], views: Mapping[str, View]) -> dict[str, Any]:
    """`views`: feature → the view it comes from."""
    notes = event["annotations"]
    masked, found = set(event["masked"]), _ages(notes, views)
    by_view: dict[str, list[dict[str, Any]]] = {name: [] for name in found}
    for name, value in event["features"].items():
        of = views[name].name if name in views else ""
        by_view.setdefault(of, []).append({"name": name, "value": _value(value), "masked": name in masked})
    told = {name: value for name, value in notes.items() if not name.startswith((AGE, SOURCE))}
    return {
        **{key: event[key] for key in _SAME},
        "at": event["time"],
        # Which rule of the release dealt the row to its arm, if events say so.
        "rule": event.get("rule", ""),
        "latency_ms": event["latency_us"] / 1000,
        "busy_ms": event["busy_us"] / 1000,
        "inputs": _values(event["inputs"], masked),
        "outputs": _values(event["outputs"], masked),
        "views": [
            {**found.get(name, _view(name, None, None, None)), "features": rows}
            for name, rows in by_view.items()
        ],
        "annotations": [{"name": n.removeprefix("@"), "value": _value(v)} for n, v in told.items()],
        "replay": f"headrace events replay --id {event['prediction_id']}",
    }


def explained(explanation: ShownExplanation | None) -> dict[str, Any] | None:
    """The contributions, the largest first, with bars of both signs."""
    if explanation is None:
        return None
    largest = max((abs(c.contribution) for c in explanation.columns), default=0.0) or 1.0
    rows = sorted(explanation.columns, key=lambda c: abs(c.contribution), reverse=True)
    return {
        "base": explanation.base,
        "output": explanation.value,
        "standard_error": explanation.standard_error,
        "sum": explanation.base + sum(c.contribution for c in rows),
        "rows": [
            {
                "column": c.column,
                "value": _value(c.value),
                "contribution": c.contribution,
                "share": abs(c.contribution) / largest,
            }
            for c in rows
        ],
    }


def outcome_rows(outcomes: Sequence[Outcome], row: int) -> list[dict[str, Any]]:
    """What became known of one row of the request."""
    return [
        {"name": o.name, "value": bool(o.value) if o.label else o.value, "at": _date(o.time)}
        for o in outcomes
        if o.row == row
    ]


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def trace_id_of(event: Mapping[str, Any]) -> str:
    """ "": the request had none."""
    parts = str(event["traceparent"]).split("-")
    return parts[1] if len(parts) >= 3 else ""


def _ages(notes: Mapping[str, Any], views: Mapping[str, View]) -> dict[str, dict[str, Any]]:
    limits = {view.name: view for view in views.values()}
    found = {}
    for key, source in notes.items():
        if key.startswith(SOURCE):
            name = key.removeprefix(SOURCE)
            found[name] = _view(name, source, notes.get(AGE + name), limits.get(name))
    return found


def _view(name: str, source: int | None, age_us: int | None, view: View | None) -> dict[str, Any]:
    """`source` None: no annotation says it, as its values came another way (a replay)."""
    age_s = None if age_us is None or age_us < 0 else age_us * _MICRO
    limit_s = view.max_age_s if view is not None else None
    return {
        "view": name,
        "source": "not known" if source is None else SOURCES.get(source, str(source)),
        "good": source in (1, None),
        "age_s": age_s,
        "age": "–" if age_s is None else words.age(age_s),
        "limit_s": limit_s,
        "limit": "–" if limit_s is None else words.age(limit_s),
    }


def _values(values: Mapping[str, Any], masked: set[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": _value(value), "masked": name in masked} for name, value in values.items()
    ]


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}… ({len(text)} characters)"

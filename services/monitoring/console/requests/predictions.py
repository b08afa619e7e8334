"""An event of a prediction as a page shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.monitoring.console.requests.views import View

AGE, SOURCE = "@age_us/", "@source/"
# As headrace.api.features.v1.Source numbers them.
SOURCES = {1: "present", 2: "not found", 3: "outside max_age", 4: "stale", 5: "default"}


def shown(event: Mapping[str, Any], views: Mapping[str, View]) -> dict[str, Any]:
    """The event, with its features by view. `views`: feature → the view it comes from."""
    notes = event["annotations"]
    limits = {view.name: view for view in views.values()}
    features: dict[str, dict[str, Any]] = {n.removeprefix(SOURCE): {} for n in notes if n.startswith(SOURCE)}
    for name, value in event["features"].items():
        features.setdefault(views[name].name if name in views else "", {})[name] = value
    return {
        **event,
        "views": [
            {**_age(name, notes, limits.get(name)), "features": values} for name, values in features.items()
        ],
        "annotations": {
            name.removeprefix("@"): value
            for name, value in notes.items()
            if not name.startswith((AGE, SOURCE))
        },
        "replay": f"headrace events replay --id {event['prediction_id']}",
    }


def _age(name: str, notes: Mapping[str, Any], view: View | None) -> dict[str, Any]:
    """Without a source: no annotation says it, as its values came another way (a replay)."""
    source, age_us = notes.get(SOURCE + name), notes.get(AGE + name)
    return {
        "view": name,
        "source": "not known" if source is None else SOURCES.get(source, str(source)),
        "good": source in (1, None),
        "age_s": None if age_us is None or age_us < 0 else age_us / 1e6,
        "limit_s": view.max_age_s if view is not None else None,
    }


def trace_id_of(event: Mapping[str, Any]) -> str:
    """ "": the request had none."""
    parts = str(event["traceparent"]).split("-")
    return parts[1] if len(parts) >= 3 else ""

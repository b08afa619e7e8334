"""A dashboard as Grafana's JSON (schema version 39, Grafana 10 and later)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headrace.dashboards.panel import Dashboard, Panel

_SOURCE = {"type": "prometheus", "uid": "${prometheus}"}
_WIDTH, _HEIGHT = 24, 8


def grafana(dashboard: Dashboard) -> str:
    """The file's text."""
    content = {
        "uid": f"headrace-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["headrace"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(_variables(dashboard))},
        "panels": list(_panels(dashboard)),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _variables(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    yield {"name": "prometheus", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    for name, value in dashboard.variables:
        current = {"text": value, "value": value}
        yield {"name": name, "type": "textbox", "query": value, "current": current, "options": [current]}


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    x = y = 0
    for number, panel in enumerate(dashboard.panels, 1):
        if x + panel.width > _WIDTH:
            x, y = 0, y + _HEIGHT
        yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": _HEIGHT})
        x += panel.width


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    common = {"id": number, "title": panel.title, "type": panel.kind, "gridPos": place}
    if panel.kind == "text":
        return {**common, "options": {"mode": "markdown", "content": panel.why}}
    # A table, a number and a gauge show the newest value only.
    instant = panel.kind in ("table", "stat", "gauge")
    return {
        **common,
        "description": panel.why,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if panel.kind == "table" else {}),
            }
            for n, (expression, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, **_thresholds(panel)}, "overrides": []},
        **({"options": {"calculate": False}} if panel.kind == "heatmap" else {}),
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    if panel.limits is None:
        return {}
    warn, bad = panel.limits
    steps: list[tuple[str, float | None]] = [("green", None), ("yellow", warn), ("red", bad)]
    if bad < warn:  # low values are bad
        steps = [("red", None), ("yellow", bad), ("green", warn)]
    return {"thresholds": {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in steps]}}

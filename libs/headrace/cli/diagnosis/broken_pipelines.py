"""Which releases can't be served, read as the router reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.cli.installation import release_place
from headrace.cli.installation.layout import Layout
from headrace.pipeline import Problem
from headrace.releases import ReleaseCatalog

FIX = "headrace release history PIPELINE shows them; release what is right anew: headrace release deploy PIPELINE"


def look(layout: Layout) -> ReleaseCatalog:
    """What is live, as the router would read it now. Raises ConfigError: control does not run here, or its address is wrong."""
    store = release_place.opened(layout)
    try:
        return ReleaseCatalog(store)
    finally:
        store.close()


def told(catalog: ReleaseCatalog, serving: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """For `--json`: each broken release, and what is wrong with the store. `serving`: pipeline → version and release."""
    found = [
        {
            "pipeline": q.name,
            "serves_version": serving.get(q.name, {}).get("version"),
            "serves_release": serving.get(q.name, {}).get("release"),
            "problems": [str(p) for p in q.problems],
        }
        for q in catalog.quarantined.values()
    ]
    folder = [str(p) for p in catalog.troubles]
    return found + ([{"pipeline": None, "serves_version": None, "problems": folder}] if folder else [])


def lines(catalog: ReleaseCatalog, serving: Mapping[str, Mapping[str, int]]) -> list[str]:
    """For people: a sentence for each broken release, then its problems. `serving`: as of `told`."""
    found: list[str] = []
    for q in catalog.quarantined.values():
        found += [_sentence(q.name, serving.get(q.name, {})), *_first(q.problems)]
    return found + [str(p) for p in catalog.troubles]


def _sentence(name: str, serves: Mapping[str, int]) -> str:
    if not serves:
        return f"pipeline {name} is in quarantine: its newest release can't be used, and no router serves another one"
    serving = f"release {serves.get('release', 0)} (version {serves.get('version', 0)})"
    return f"pipeline {name} serves {serving}, which was good last: the newest can't be used"


def _first(problems: tuple[Problem, ...], count: int = 3) -> list[str]:
    more = [f"  and {len(problems) - count} more"] if len(problems) > count else []
    return [f"  {p}" for p in problems[:count]] + more

"""Which pipeline documents can't be served, read as the router reads them; the router need not run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headrace.cli.installation.layout import Layout
from headrace.pipeline import Catalog, Kept, Problem, Quarantined

FIX = "mend the document; headrace pipeline check FILE says what is wrong"


def look(layout: Layout) -> Catalog:
    """The documents as the router would read them now."""
    kept = Path(_setting(layout, "kept") or layout.kept_pipelines)
    return Catalog(Path(_setting(layout, "pipelines") or layout.pipelines), kept=Kept(kept, writes=False))


def told(catalog: Catalog) -> list[dict[str, Any]]:
    """For `--json`: each broken document, and what is wrong with the folder."""
    found = [
        {
            "pipeline": q.name,
            "serves_version": q.serves.version if q.serves else None,
            "problems": [str(p) for p in q.problems],
        }
        for q in catalog.quarantined.values()
    ]
    folder = [str(p) for p in catalog.troubles]
    return found + ([{"pipeline": None, "serves_version": None, "problems": folder}] if folder else [])


def lines(catalog: Catalog) -> list[str]:
    """For people: a sentence for each broken document, then its problems."""
    found: list[str] = []
    for q in catalog.quarantined.values():
        found += [_sentence(q), *_first(q.problems)]
    return found + [str(p) for p in catalog.troubles]


def _sentence(q: Quarantined) -> str:
    if q.serves is None:
        return f"pipeline {q.name} can't be used: its document is broken, and no good revision of it is known"
    return f"pipeline {q.name} serves its last good revision (version {q.serves.version}): its document is broken"


def _first(problems: tuple[Problem, ...], count: int = 3) -> list[str]:
    more = [f"  and {len(problems) - count} more"] if len(problems) > count else []
    return [f"  {p}" for p in problems[:count]] + more


def _setting(layout: Layout, key: str) -> str | None:
    """A setting that a person laid over the router's generated ones, in either shape; None if there is none."""
    own = _read(layout.override("router")).get(key)
    together = _read(layout.override("ingress")).get("together")
    hosted = together.get("router") if isinstance(together, Mapping) else None
    found = own or (hosted.get(key) if isinstance(hosted, Mapping) else None)
    return found if isinstance(found, str) else None


def _read(path: Path) -> Mapping[str, Any]:
    # Another check reports a broken settings file.
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, Mapping) else {}

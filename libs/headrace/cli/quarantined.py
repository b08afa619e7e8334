"""Models that should serve and can't, as the executors say."""

from __future__ import annotations

from headrace.cli.layout import Layout
from headrace.repository.records import Records


def models(layout: Layout) -> list[dict[str, str]]:
    """Of each version in quarantine: `model`, `version` ("" where none can be named), `problem`, `remedy`, `since`."""
    found = []
    for key, about in sorted(Records(layout.executor_state).quarantined().items()):
        model, _, version = key.partition(":")
        told = {part: str(about.get(part, "")) for part in ("problem", "remedy", "since")}
        found.append({"model": model, "version": version, **told})
    return found


def sentence(model: dict[str, str]) -> str:
    """What is wrong with one of them."""
    version = f" version {model['version']}" if model["version"] else ""
    return f"model {model['model']}{version} is in quarantine: {model['problem']}"

"""Model versions that should serve and can't be used, as the executors recorded it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headrace.cli.installation.layout import Layout
from headrace.repository.records import Records

_HELD = re.compile(rb'^headrace_executor_quarantined\{model="([^"]*)",version="([^"]*)"\} 1', re.MULTILINE)


def models(layout: Layout) -> list[dict[str, str]]:
    """Of each version in quarantine: `model`, `version` ("" where none can be named), `problem`, `remedy`, `since`."""
    found = []
    for key, about in sorted(Records(layout.executor_state).quarantined().items()):
        model, _, version = key.partition(":")
        told = {part: str(about.get(part, "")) for part in ("problem", "remedy", "since")}
        found.append({"model": model, "version": version, **told})
    return found


def sentence(model: dict[str, str]) -> str:
    """What is wrong with one of them, as a sentence."""
    version = f" version {model['version']}" if model["version"] else ""
    return f"model {model['model']}{version} is in quarantine: {model['problem']}"


def newly_held(old: bytes, new: bytes) -> list[str]:
    """NAME:VERSION of what a new process has in quarantine and the old one has not. `old`, `new`: their metrics pages."""
    if not old:
        return []  # it did not answer: what it serves is not known
    return sorted(b":".join(key).decode() for key in {*_HELD.findall(new)} - {*_HELD.findall(old)})


def forget(layout: Layout, keys: Iterable[str]) -> list[str]:
    """Removes the records that a process wrote which was given up. Returns a sentence for each."""
    given_up = set(keys)
    told = [sentence(m) for m in models(layout) if f"{m['model']}:{m['version']}" in given_up]
    records = Records(layout.executor_state)
    for key in given_up:
        records.release(key)
    return told

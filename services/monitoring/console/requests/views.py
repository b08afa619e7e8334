"""Which view a feature belongs to, and how old its values may be: from the document of the revision that answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.pipeline import DocumentError, FeaturesStage, parse
from headrace.releases import ReleaseStore

_MICRO = 1e-6
# Revisions that are remembered.
_KEPT = 64


@dataclass(frozen=True, slots=True)
class View:
    """`max_age_s`: values are fresh up to it; None: as long as the view's time to live, which the feature store knows.
    `stale_s`: for so long more they are used as stale ones. `entities`: the columns of its keys."""

    name: str
    max_age_s: float | None
    stale_s: float
    entities: tuple[str, ...]


class Views:
    """Blocks: call it on a thread."""

    def __init__(self, store: ReleaseStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str], Mapping[str, View]] = {}

    def of(self, pipeline: str, revision: str) -> Mapping[str, View]:
        """Feature → its view; empty: the document is not kept any more. Raises OSError."""
        key = (pipeline, revision)
        if key not in self._known:
            # A name that a caller made up must not become a part of a path.
            text = self._store.document(pipeline, revision) if pipeline in self._store.pipelines() else None
            if text is None:
                return {}
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = _views(text, pipeline)
        return self._known[key]


def _views(text: str, pipeline: str) -> Mapping[str, View]:
    try:
        stages = parse(text, pipeline).stages
    except DocumentError:
        return {}  # the router says so
    found: dict[str, View] = {}
    for stage in stages:
        if isinstance(stage, FeaturesStage):
            for name, spec in stage.views.items():
                rule = spec.freshness
                max_age_s = rule.max_age_us * _MICRO if rule else None
                stale_s = rule.stale_us * _MICRO if rule else 0.0
                found |= dict.fromkeys(spec.features, View(name, max_age_s, stale_s, stage.entities))
    return found

"""The kinds of stages that a document may have, and the reader of its `stages`."""

from __future__ import annotations

from typing import Any

from headrace.pipeline.document.entries import Entry
from headrace.pipeline.problems import suggestion
from headrace.pipeline.stages.cascade import CASCADE
from headrace.pipeline.stages.ensemble import ENSEMBLE
from headrace.pipeline.stages.features import FEATURES
from headrace.pipeline.stages.kind import Stage, StageKind
from headrace.pipeline.stages.model import MODEL
from headrace.pipeline.stages.steps import POSTPROCESSING, PREPROCESSING

STAGE_KINDS: dict[str, StageKind[Any]] = {
    kind.name: kind for kind in (FEATURES, PREPROCESSING, MODEL, CASCADE, ENSEMBLE, POSTPROCESSING)
}


def kind_of(stage: Stage) -> StageKind[Any]:
    return STAGE_KINDS[stage.kind]


def read_stages(entry: Entry | None) -> tuple[Stage, ...]:
    """The stages in the order of the document; those that can't be read are logged and left out."""
    if entry is None:
        return ()
    stages: list[Stage] = []
    items = entry.items()
    if not items:
        entry.fail("needs at least one stage")
    for item in items:
        stage = _read_stage(item)
        if stage is None:
            continue
        if stage.name in [s.name for s in stages]:
            item.fail(f"two stages are named {stage.name!r}")
        stages.append(stage)
    for kind in STAGE_KINDS.values():
        kind.check_document([s for s in stages if s.kind == kind.name], entry)
    return tuple(stages)


def _read_stage(entry: Entry) -> Stage | None:
    name = next(iter(entry.entries()), "")
    if name in STAGE_KINDS:
        stage: Stage | None = STAGE_KINDS[name].read(entry)
        return stage
    hint = suggestion(name, STAGE_KINDS)
    entry.fail(f"should begin with its kind and name, such as `model: NAME`; begins with {name!r}{hint}")
    return None

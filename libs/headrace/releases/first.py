"""The first release of a pipeline: its document as it is now, with a version for each model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.pipeline import Pipeline, kind_of
from headrace.releases.document import Arm, Release
from headrace.releases.errors import ReleaseError
from headrace.releases.spans import LIVE


def models_of(pipeline: Pipeline, choose: Callable[[str, str], str | None]) -> Mapping[str, str]:
    """Model → version, of all models that the stages run. `choose(model, wanted)`: the version for what the document wants of a
    model ("": it leaves it open); None: there is none. Raises ReleaseError that names each model without one."""
    found: dict[str, str] = {}
    problems = []
    for i, stage in enumerate(pipeline.stages):
        for model, wanted in kind_of(stage).models(stage).items():
            version = choose(model, wanted)
            if version is None:
                what = f"version {wanted!r} of model {model!r}" if wanted else f"version of model {model!r}"
                problems.append(f"stages[{i}]: there is no {what}; add it: headrace models add {model} FILE")
            else:
                found[model] = version
    if problems:
        raise ReleaseError(pipeline.name, problems)
    return found


def first_release(pipeline: Pipeline, models: Mapping[str, str], author: str, reason: str) -> Release:
    """Release 1: the document as its only arm."""
    arm = Arm(version=pipeline.version, revision=pipeline.revision, models=models)
    return Release(pipeline=pipeline.name, number=1, arms={LIVE: arm}, author=author, reason=reason)

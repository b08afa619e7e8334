"""The pipelines that releases name, ready to serve: each arm's document with its models pinned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from headrace.pipeline import DocumentError, Pipeline, SettingError, kind_of, parse
from headrace.pipeline.problems import suggestion
from headrace.releases.document import Arm, Release
from headrace.releases.errors import ReleaseError
from headrace.releases.spans import LIVE


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """What serves of one pipeline: the document of each arm. Compared by identity."""

    arms: Mapping[str, Pipeline]
    release: Release

    @property
    def live(self) -> Pipeline:
        """The document that requests are checked against."""
        return self.arms[LIVE]

    @property
    def number(self) -> int:
        """Number of the release."""
        return self.release.number


def released(release: Release, document: Callable[[str], str | None]) -> Released:
    """The pipelines of a release. `document`: revision → text.

    Raises ReleaseError: a document is missing, altered or broken, or an arm pins what its stages do not have. Whether rules and
    keys fit the inputs, `inputs.check_inputs` says.
    """
    arms: dict[str, Pipeline] = {}
    for name, arm in release.arms.items():
        key = f"arms.{name}"
        text = document(arm.revision)
        if text is None:
            raise ReleaseError(release.pipeline, [f"{key}.revision: its document is not stored"])
        try:
            pipeline = _parsed(text, f"{release.pipeline}@{arm.revision[:12]}")
        except DocumentError as error:
            raise ReleaseError(release.pipeline, [f"{key}: {p}" for p in error.problems]) from None
        if (pipeline.name, pipeline.revision) != (release.pipeline, arm.revision):
            raise ReleaseError(release.pipeline, [f"{key}.revision: the stored document is another one"])
        arms[name] = pinned(pipeline, arm, key)
    return Released(MappingProxyType(arms), release)


# Most releases name the documents of the one before.
_parsed = lru_cache(maxsize=256)(parse)


def pinned(pipeline: Pipeline, arm: Arm, key: str) -> Pipeline:
    """The pipeline with the models' versions and the settings of an arm. Raises ReleaseError naming the key below `key`."""
    names = {stage.name for stage in pipeline.stages}
    for name in arm.settings:
        if name not in names:
            problem = f"{key}.settings.{name}: there is no such stage{suggestion(name, names)}"
            raise ReleaseError(pipeline.name, [problem])
    stages = []
    for stage in pipeline.stages:
        try:
            stages.append(kind_of(stage).pinned(stage, arm.models, arm.settings.get(stage.name, {})))
        except SettingError as error:
            raise ReleaseError(
                pipeline.name, [f"{key}.settings.{stage.name}.{error.setting}: {error}"]
            ) from None
    return replace(pipeline, stages=tuple(stages))

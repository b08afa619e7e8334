"""A release pins the versions of a stage's models and sets what its kind lets it set; the stage itself does not change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.pipeline import ModelStage, SettingError, kind_of
from tests.libs.pipeline.pipeline_documents import parsed


def test_stages_without_models_stay_as_they_are() -> None:
    for stage in parsed().stages:
        if not isinstance(stage, ModelStage):
            assert kind_of(stage).models(stage) == {}
            assert kind_of(stage).pinned(stage, {"scorer": "9"}, {}) is stage


def test_a_release_decides_the_version_of_a_model() -> None:
    [stage] = [s for s in parsed().stages if isinstance(s, ModelStage)]
    kind = kind_of(stage)
    assert kind.models(stage) == {"scorer": "7"}
    assert kind.pinned(stage, {"scorer": "9", "other": "1"}, {}) == replace(stage, version="9")
    assert stage.version == "7"
    assert kind.pinned(stage, {"other": "1"}, {}) == stage


def test_a_setting_that_the_stage_does_not_have_is_named() -> None:
    for stage in parsed().stages:
        with pytest.raises(SettingError) as error:
            kind_of(stage).pinned(stage, {}, {"threshold": 0.1})
        assert (error.value.stage, error.value.setting) == (stage.name, "threshold")
        assert f"a {stage.kind} stage has no settings" in str(error.value)

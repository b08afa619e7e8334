"""A folder of pipelines while its files change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from headrace.pipeline import Catalog, DocumentError, Pipeline
from tests.libs.pipeline.pipeline_documents import SMALL, changed


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    temporary = folder / name / "new"
    temporary.write_text(text)
    temporary.replace(folder / name / "pipeline.yaml")


def test_a_change_is_seen_and_nothing_else_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, "a", SMALL)
    write(tmp_path, "b", changed(("pipeline: small", "pipeline: other")))
    catalog = Catalog(tmp_path)
    before = dict(catalog.pipelines)
    assert sorted(before) == ["other", "small"]
    assert catalog.reload().changed == ()
    write(tmp_path, "a", changed(("version: 2", "version: 3")))
    assert catalog.reload().changed == ("small",)
    assert catalog.pipelines["small"].version == 3
    assert catalog.pipelines["other"] is before["other"]


def test_a_mistake_keeps_the_old_revision_and_is_told_once(tmp_path: Path) -> None:
    write(tmp_path, "a", SMALL)
    catalog = Catalog(tmp_path)
    old = catalog.pipelines["small"]
    write(tmp_path, "a", changed(("version: 2", "version: x")))
    told = catalog.reload()
    assert [p.key for p in told.problems] == ["version"]
    assert catalog.pipelines["small"] is old
    assert catalog.reload().problems == ()
    write(tmp_path, "a", changed(("version: 2", "version: 3")))
    assert catalog.reload().changed == ("small",)


def test_pipelines_come_and_go(tmp_path: Path) -> None:
    write(tmp_path, "a", SMALL)
    catalog = Catalog(tmp_path)
    write(tmp_path, "b", changed(("pipeline: small", "pipeline: other")))
    assert catalog.reload().changed == ("other",)
    shutil.rmtree(tmp_path / "a")
    assert catalog.reload().removed == ("small",)
    assert list(catalog.pipelines) == ["other"]


def test_nobody_takes_the_name_of_another(tmp_path: Path) -> None:
    write(tmp_path, "b", SMALL)
    catalog = Catalog(tmp_path)
    old = catalog.pipelines["small"]
    write(tmp_path, "a", changed(("version: 2", "version: 9")))
    told = catalog.reload()
    assert "is the name of" in told.problems[0].message
    assert catalog.pipelines["small"] is old
    assert catalog.reload().problems == ()


def test_a_wrong_folder_is_refused_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a", "pipeline: [")
    with pytest.raises(DocumentError):
        Catalog(tmp_path)


def test_the_owner_may_refuse_a_pipeline(tmp_path: Path) -> None:
    def accept(pipeline: Pipeline) -> None:
        if pipeline.version > 2:
            raise DocumentError([pipeline.source.problem("version", "too new")])

    write(tmp_path, "a", SMALL)
    catalog = Catalog(tmp_path, accept=accept)
    write(tmp_path, "a", changed(("version: 2", "version: 3")))
    assert [p.message for p in catalog.reload().problems] == ["too new"]
    assert catalog.pipelines["small"].version == 2

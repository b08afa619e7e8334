"""A folder of pipelines while its files change."""

import os
import shutil
import time
from pathlib import Path

import pytest

from headrace.pipeline import Catalog, DocumentError, Kept, Pipeline
from tests.libs.pipeline.pipeline_documents import SMALL, changed


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    temporary = folder / name / "new"
    temporary.write_text(text)
    temporary.replace(folder / name / "pipeline.yaml")


def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One for documents, and a place for their copies."""
    (tmp_path / "documents").mkdir()
    return tmp_path / "documents", tmp_path / "kept" / "pipelines"


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


def test_a_broken_document_stops_no_other_at_the_start(tmp_path: Path) -> None:
    write(tmp_path, "a", SMALL)
    write(tmp_path, "b", "pipeline: [")
    catalog = Catalog(tmp_path)
    assert list(catalog.pipelines) == ["small"]
    assert catalog.unusable == {"b"}
    assert "b/pipeline.yaml:1: (syntax):" in str(catalog.first.problems[0])
    write(tmp_path, "b", changed(("pipeline: small", "pipeline: b")))
    told = catalog.reload()
    assert (told.changed, told.cleared, catalog.unusable) == (("b",), ("b",), frozenset())


def test_the_last_good_revision_outlives_the_process(tmp_path: Path) -> None:
    documents, kept = folders(tmp_path)
    write(documents, "a", SMALL)
    Catalog(documents, kept=Kept(kept, writes=True))
    write(documents, "a", "pipeline: [")
    for _ in range(2):
        catalog = Catalog(documents, kept=Kept(kept, writes=True))
        assert catalog.pipelines["small"].version == 2
        [entry] = catalog.quarantined.values()
        assert (entry.name, entry.serves) == ("small", catalog.pipelines["small"])
    write(documents, "a", changed(("version: 2", "version: 3")))
    assert catalog.reload().changed == ("small",)
    write(documents, "a", "")
    assert Catalog(documents, kept=Kept(kept, writes=True)).pipelines["small"].version == 3


def test_readers_of_the_copies_serve_what_their_writer_serves(tmp_path: Path) -> None:
    documents, kept = folders(tmp_path)
    write(documents, "a", SMALL)
    writer = Catalog(documents, kept=Kept(kept, writes=True))
    reader = Catalog(documents, kept=Kept(kept, writes=False))
    write(documents, "a", changed(("version: 2", "version: 3")))
    reader.reload()
    write(documents, "a", "version: 4")
    for catalog in (writer, reader, Catalog(documents, kept=Kept(kept, writes=False))):
        catalog.reload()
        # The writer never saw version 3.
        assert catalog.pipelines["small"].version == 2


def test_a_deleted_document_is_forgotten(tmp_path: Path) -> None:
    documents, kept = folders(tmp_path)
    write(documents, "a", SMALL)
    write(documents, "b", "pipeline: [")
    catalog = Catalog(documents, kept=Kept(kept, writes=True))
    shutil.rmtree(documents / "a")
    shutil.rmtree(documents / "b")
    told = catalog.reload()
    assert (told.removed, told.cleared, catalog.unusable) == (("small",), ("b",), frozenset())
    assert list(kept.iterdir()) == []


def test_copies_that_cannot_be_written_are_told_of_and_tried_again(tmp_path: Path) -> None:
    documents, kept = folders(tmp_path)
    write(documents, "a", SMALL)
    kept.parent.mkdir()
    kept.write_text("in the way, as a full disk would be")
    catalog = Catalog(documents, kept=Kept(kept, writes=True))
    assert list(catalog.pipelines) == ["small"]
    assert [p.key for p in catalog.first.problems] == ["(kept)"]
    assert catalog.reload().problems == ()
    kept.unlink()
    catalog.reload()
    assert catalog.troubles == ()
    assert (kept / "a.yaml").read_text() == SMALL


def test_a_damaged_copy_is_as_none(tmp_path: Path) -> None:
    documents, kept = folders(tmp_path)
    write(documents, "small", "pipeline: [")
    kept.mkdir(parents=True)
    (kept / "small.yaml").write_bytes(b"\xff")
    catalog = Catalog(documents, kept=Kept(kept, writes=True))
    assert catalog.unusable == {"small"}


def test_who_served_a_name_has_it_after_a_restart_too(tmp_path: Path) -> None:
    documents, kept = folders(tmp_path)
    write(documents, "b", SMALL)
    Catalog(documents, kept=Kept(kept, writes=True))
    write(documents, "a", changed(("version: 2", "version: 9")))
    catalog = Catalog(documents, kept=Kept(kept, writes=True))
    assert catalog.pipelines["small"].version == 2
    write(documents, "b", "broken")
    assert "is the name of" in str(catalog.quarantined["a"].problems[0])
    assert catalog.reload().changed == ()
    shutil.rmtree(documents / "b")
    catalog.reload()
    assert catalog.pipelines["small"].version == 9


def test_a_name_taken_from_another_leaves_the_thief_what_it_had(tmp_path: Path) -> None:
    write(tmp_path, "b", SMALL)
    write(tmp_path, "a", changed(("pipeline: small", "pipeline: other")))
    catalog = Catalog(tmp_path)
    before = dict(catalog.pipelines)
    write(tmp_path, "a", changed(("version: 2", "version: 9")))
    told = catalog.reload()
    assert "is the name of" in told.problems[0].message
    assert sorted(catalog.pipelines) == ["other", "small"]
    assert catalog.pipelines["small"] is before["small"]
    assert catalog.reload().problems == ()


def test_a_folder_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    documents, kept = folders(tmp_path)
    write(documents, "a", SMALL)
    catalog = Catalog(documents, kept=Kept(kept, writes=True))
    documents.rename(tmp_path / "away")
    told = catalog.reload()
    assert [p.key for p in told.problems] == ["(folder)"]
    assert (list(catalog.pipelines), told.removed) == (["small"], ())
    # A process that starts meanwhile has the copies.
    other = Catalog(documents, kept=Kept(kept, writes=False))
    assert list(other.pipelines) == ["small"]
    (tmp_path / "away").rename(documents)
    assert catalog.reload().problems == ()
    assert catalog.troubles == ()


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "circle", "huge", "binary", "bomb", "wide"])
def test_nothing_in_the_place_of_a_document_holds_the_reader_up(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "a", SMALL)
    (tmp_path / "b").mkdir()
    strange(tmp_path / "b" / "pipeline.yaml", kind)
    began = time.thread_time()
    catalog = Catalog(tmp_path)
    assert time.thread_time() - began < 20
    assert list(catalog.pipelines) == ["small"]
    assert catalog.unusable == {"b"}
    assert all(len(str(p)) < 2000 for p in catalog.first.problems)


def strange(path: Path, kind: str) -> None:
    """Puts something at `path` that is no document."""
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "circle":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(100 << 20)
        case "binary":
            path.write_bytes(b"pipeline: \xff\xfe")
        case "bomb":
            levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 30)]
            path.write_text("l0: &l0 [x]\n" + "\n".join(levels))
        case "wide":
            path.write_text("pipeline: [" + "1," * 500_000 + "1]")


def test_the_owner_may_refuse_a_pipeline(tmp_path: Path) -> None:
    def accept(pipeline: Pipeline) -> None:
        if pipeline.version > 2:
            raise DocumentError([pipeline.source.problem("version", "too new")])

    write(tmp_path, "a", SMALL)
    catalog = Catalog(tmp_path, accept=accept)
    write(tmp_path, "a", changed(("version: 2", "version: 3")))
    assert [p.message for p in catalog.reload().problems] == ["too new"]
    assert catalog.pipelines["small"].version == 2

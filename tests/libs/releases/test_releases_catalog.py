"""What serves of each pipeline: the newest release that can be used, the last good one while that is broken."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from headrace.pipeline import DocumentError, ModelStage, Pipeline, Reload, parse
from headrace.releases import Arm, FileReleases, Release, ReleaseCatalog
from headrace.releases.first import first_release
from headrace.releases.store import ReleaseStore

DOCUMENT = """
pipeline: p
version: 1
deadline_ms: 1000
inputs: {x: float32}
stages:
  - {model: m, name: adder, inputs: {x: x}, outputs: {y: {column: y, type: float32}}}
outputs: [y]
"""


def arm(text: str, models: Mapping[str, str]) -> Arm:
    pipeline = parse(text, "p")
    return Arm(version=pipeline.version, revision=pipeline.revision, models=models)


def deploy(store: ReleaseStore, text: str = DOCUMENT, version: str = "1", **arms: Arm) -> Release:
    pipeline = parse(text, "p")
    before, broken = store.current("p")
    store.keep_document("p", pipeline.revision, text)
    live = arm(text, {"adder": version})
    if before is None:
        release = first_release(pipeline, live.models, "me", "")
    else:
        after = broken.number if broken else None
        release = before.next("me", "", after=after, arms={"live": live, **arms})
    store.commit(release)
    return release


def versions(catalog: ReleaseCatalog) -> list[str]:
    stages = catalog.pipelines["p"].stages if "p" in catalog.pipelines else ()
    return [s.version for s in stages if isinstance(s, ModelStage)]


def alter(store: FileReleases, number: int) -> None:
    path = store.folder / "p" / f"{number}.json"
    path.write_text(path.read_text().replace('"me"', '"you"'))


def flip(path: Path) -> None:
    """One byte is another one."""
    content = bytearray(path.read_bytes())
    content[content.index(b"version") + 9] ^= 1
    path.write_bytes(content)


def test_the_newest_release_serves_with_its_models_pinned(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    catalog = ReleaseCatalog(store)
    assert catalog.released == {}
    deploy(store)
    assert catalog.reload() == Reload(changed=("p",))
    assert versions(catalog) == ["1"]
    same = catalog.released["p"]
    assert catalog.reload() == Reload()
    assert catalog.released["p"] is same
    deploy(store, version="2")
    assert catalog.reload().changed == ("p",)
    assert (versions(catalog), catalog.released["p"].number) == (["2"], 2)
    store.remove("p")
    assert catalog.reload() == Reload(removed=("p",))


def test_each_arm_has_its_document_and_its_models(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    deploy(store)
    newer = DOCUMENT.replace("version: 1", "version: 2")
    store.keep_document("p", parse(newer, "p").revision, newer)
    deploy(store, candidate=arm(newer, {"adder": "3"}))
    found = ReleaseCatalog(store).released["p"]
    assert {name: p.version for name, p in found.arms.items()} == {"live": 1, "candidate": 2}
    [stage] = found.arms["candidate"].stages
    assert isinstance(stage, ModelStage)
    assert stage.version == "3"


@pytest.mark.parametrize("mirrored", [True, False])
def test_of_an_altered_release_the_last_good_one_serves_and_a_new_one_mends_it(
    tmp_path: Path, mirrored: bool
) -> None:
    store = FileReleases(tmp_path / "store")
    mirror = FileReleases(tmp_path / "kept") if mirrored else None
    deploy(store)
    deploy(store, version="2")
    catalog = ReleaseCatalog(store, mirror=mirror)
    assert versions(catalog) == ["2"]
    alter(store, 2)
    for reader in (catalog, ReleaseCatalog(store, mirror=mirror)):
        reader.reload()
        # Not the one before, which may have been left for a reason.
        assert versions(reader) == (["2"] if mirrored or reader is catalog else [])
        [problem] = reader.quarantined["p"].problems
        assert (problem.file, problem.message) == (
            "releases/p/2",
            "sha256: the document was altered after it was written",
        )
        assert reader.unusable == (frozenset() if versions(reader) else {"p"})
    assert catalog.reload().problems == ()  # said once
    deploy(store, version="3")
    assert catalog.reload().cleared == ("p",)
    assert (versions(catalog), catalog.released["p"].number) == (["3"], 3)


@pytest.mark.parametrize(("part", "harm"), [("2.json", flip), ("document", flip), ("document", Path.unlink)])
@pytest.mark.parametrize("copied", [True, False])
def test_a_damaged_newest_release_is_served_by_its_copy_or_not_at_all(
    tmp_path: Path, part: str, harm: Callable[[Path], None], copied: bool
) -> None:
    store, mirror = FileReleases(tmp_path / "store"), FileReleases(tmp_path / "kept")
    deploy(store)
    newer = DOCUMENT.replace("version: 1", "version: 2")
    deploy(store, newer)
    name = f"p/documents/{parse(newer, 'p').revision}.yaml" if part == "document" else f"p/{part}"
    running = ReleaseCatalog(store, mirror=mirror)
    good = (store.folder / name).read_bytes()
    harm(store.folder / name)
    if not copied:
        harm(mirror.folder / name)
    for _ in range(2):  # a start must not harm the copy for the next one
        catalog = ReleaseCatalog(store, mirror=mirror)
        assert [p.version for p in catalog.pipelines.values()] == ([2] if copied else [])
        assert catalog.unusable == (frozenset() if copied else {"p"})
        assert "releases/p/2" in str(catalog.quarantined["p"].problems[0])
    # What runs goes on, whatever is left on the disk.
    running.reload()
    assert running.pipelines["p"].version == 2
    (store.folder / name).write_bytes(good)
    assert catalog.reload().cleared == ("p",)
    assert (catalog.pipelines["p"].version, catalog.quarantined) == (2, {})


def test_without_the_newest_one_a_start_goes_on_with_what_served_last_and_says_so(tmp_path: Path) -> None:
    store, mirror = FileReleases(tmp_path / "store"), FileReleases(tmp_path / "kept")
    deploy(store)
    ReleaseCatalog(store, mirror=mirror)
    deploy(store, version="2")
    flip(store.folder / "p" / "2.json")
    catalog = ReleaseCatalog(store, mirror=mirror)
    assert (versions(catalog), "releases/p/2" in str(catalog.quarantined["p"].problems[0])) == (["1"], True)


def test_a_document_that_is_another_one_is_refused(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    deploy(store)
    store.keep_document("p", parse(DOCUMENT, "p").revision, DOCUMENT.replace("1000", "2000"))
    catalog = ReleaseCatalog(store)
    assert catalog.unusable == {"p"}
    assert "another one" in str(catalog.quarantined["p"].problems[0])


def test_one_broken_release_stops_no_other_pipeline(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    deploy(store)
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "1.json").write_text("{")
    catalog = ReleaseCatalog(store)
    assert versions(catalog) == ["1"]
    assert catalog.unusable == {"q"}


def test_what_the_reader_does_not_accept_leaves_the_one_before(tmp_path: Path) -> None:
    def accept(pipeline: Pipeline) -> None:
        if pipeline.version == 2:
            raise DocumentError([pipeline.source.problem("stages[0]", "no client")])

    store = FileReleases(tmp_path)
    deploy(store)
    deploy(store, DOCUMENT.replace("version: 1", "version: 2"))
    catalog = ReleaseCatalog(store, accept=accept)
    assert catalog.pipelines["p"].version == 1
    assert "no client" in str(catalog.quarantined["p"].problems[0])


def test_settings_of_stages_that_there_are_not_name_their_key(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    release = deploy(store)
    live = release.live.model_copy(update={"settings": {"n": {"threshold": 0.5}}})
    store.commit(release.next("me", "", arms={"live": live}))
    catalog = ReleaseCatalog(store)
    assert "arms.live.settings.n: there is no such stage" in str(catalog.quarantined["p"].problems[0])
    assert versions(catalog) == ["1"]

"""What serves of each pipeline: the newest release that can be used, the last good one while that is broken."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from headrace.pipeline import DocumentError, ModelStage, Pipeline, Reload, parse
from headrace.releases import Arm, Release, ReleaseCatalog
from headrace.releases.document import to_bytes
from headrace.releases.first import first_release
from headrace.releases.of_records import RecordReleases
from headrace.releases.store import ReleaseStore
from tests.control_service import execute
from tests.released import database, releases_in, spoil

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


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordReleases]:
    with releases_in(tmp_path) as found:
        yield found


def flipped(content: bytes) -> bytes:
    """One byte is another one."""
    at = content.index(b"version") + 9
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_the_newest_release_serves_with_its_models_pinned(store: RecordReleases) -> None:
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


def test_each_arm_has_its_document_and_its_models(store: RecordReleases) -> None:
    deploy(store)
    newer = DOCUMENT.replace("version: 1", "version: 2")
    store.keep_document("p", parse(newer, "p").revision, newer)
    deploy(store, candidate=arm(newer, {"adder": "3"}))
    found = ReleaseCatalog(store).released["p"]
    assert {name: p.version for name, p in found.arms.items()} == {"live": 1, "candidate": 2}
    [stage] = found.arms["candidate"].stages
    assert isinstance(stage, ModelStage)
    assert stage.version == "3"


def test_of_an_altered_release_what_served_goes_on_and_a_new_one_mends_it(
    store: RecordReleases, tmp_path: Path
) -> None:
    deploy(store)
    catalog = ReleaseCatalog(store)
    good = deploy(store, version="2")
    catalog.reload()
    spoil(database(tmp_path), "p", 2, to_bytes(good).replace(b'"me"', b'"you"'))
    starting = ReleaseCatalog(store)
    deploy_elsewhere(store)
    for reader in (catalog, starting):
        reader.reload()
        # Not the one before, which may have been left for a reason.
        assert versions(reader) == (["2"] if reader is catalog else [])
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


def deploy_elsewhere(store: ReleaseStore) -> None:
    """Another pipeline's document: what is stored is looked at anew."""
    store.keep_document("other", "0" * 64, "x")


@pytest.mark.parametrize("harm", [flipped, lambda _: None])
def test_a_damaged_document_stops_starts_alone(
    store: RecordReleases, tmp_path: Path, harm: Callable[[bytes], bytes | None]
) -> None:
    deploy(store)
    newer = DOCUMENT.replace("version: 1", "version: 2")
    deploy(store, newer)
    running = ReleaseCatalog(store)

    def put(content: bytes | None) -> None:
        statement = "UPDATE records SET content = ? WHERE kind = 'document' AND name = ?"
        execute(str(database(tmp_path)), statement, content, f"p/{parse(newer, 'p').revision}")

    put(harm(newer.encode()))
    starting = ReleaseCatalog(store)
    assert (dict(starting.pipelines), starting.unusable) == ({}, {"p"})
    assert "releases/p/2" in str(starting.quarantined["p"].problems[0])
    deploy_elsewhere(store)
    assert running.reload() == Reload()
    assert running.pipelines["p"].version == 2
    put(newer.encode())
    assert starting.reload().cleared == ("p",)
    assert (starting.pipelines["p"].version, starting.quarantined) == (2, {})


def test_while_the_store_is_away_what_served_goes_on(store: RecordReleases, tmp_path: Path) -> None:
    deploy(store)
    catalog = ReleaseCatalog(store)
    deploy(store, version="2")
    execute(str(database(tmp_path)), "ALTER TABLE records RENAME TO away")
    [problem] = catalog.reload().problems
    assert "can't be reached" in problem.message
    assert (versions(catalog), catalog.reload().problems) == (["1"], ())
    starting = ReleaseCatalog(store)
    assert (starting.released, len(starting.troubles)) == ({}, 1)
    execute(str(database(tmp_path)), "ALTER TABLE away RENAME TO records")
    for reader in (catalog, starting):
        reader.reload()
        assert (versions(reader), reader.troubles) == (["2"], ())


def test_a_document_that_is_another_one_is_refused(store: RecordReleases) -> None:
    deploy(store)
    store.keep_document("p", parse(DOCUMENT, "p").revision, DOCUMENT.replace("1000", "2000"))
    catalog = ReleaseCatalog(store)
    assert catalog.unusable == {"p"}
    assert "another one" in str(catalog.quarantined["p"].problems[0])


def test_one_broken_release_stops_no_other_pipeline(store: RecordReleases, tmp_path: Path) -> None:
    other = deploy(store)
    store.keep_document("q", other.live.revision, DOCUMENT)
    store.commit(other.model_copy(update={"pipeline": "q"}))
    spoil(database(tmp_path), "q", 1, b"{")
    catalog = ReleaseCatalog(store)
    assert versions(catalog) == ["1"]
    assert catalog.unusable == {"q"}


def test_what_the_reader_does_not_accept_leaves_the_one_before(store: RecordReleases) -> None:
    def accept(pipeline: Pipeline) -> None:
        if pipeline.version == 2:
            raise DocumentError([pipeline.source.problem("stages[0]", "no client")])

    deploy(store)
    catalog = ReleaseCatalog(store, accept=accept)
    deploy(store, DOCUMENT.replace("version: 1", "version: 2"))
    catalog.reload()
    assert catalog.pipelines["p"].version == 1
    assert "no client" in str(catalog.quarantined["p"].problems[0])


def test_settings_of_stages_that_there_are_not_name_their_key(store: RecordReleases) -> None:
    release = deploy(store)
    live = release.live.model_copy(update={"settings": {"n": {"threshold": 0.5}}})
    catalog = ReleaseCatalog(store)
    store.commit(release.next("me", "", arms={"live": live}))
    catalog.reload()
    assert "arms.live.settings.n: there is no such stage" in str(catalog.quarantined["p"].problems[0])
    assert versions(catalog) == ["1"]

"""Releases among records, beyond what all stores do: the audit's lines, old documents, leases."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.catalog.access import Change, LeaseToken, Write
from headrace.catalog.errors import RecordsDivergedError, RecordsUnavailableError
from headrace.catalog.records import CatalogRecords
from headrace.pipeline import content_hash
from headrace.releases import Freeze, ReleaseError, StaleError
from headrace.releases.errors import FencedError
from headrace.releases.of_records import RecordReleases
from headrace.releases.place import PlaceError, open_store
from headrace.releases.records.audit import sha256_of
from headrace.releases.store import KEPT
from tests.libs.releases.release_stores import REVISION, TEXT, release


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CatalogRecords]:
    found = CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)
    yield found
    found.close()


@pytest.fixture
def store(records: CatalogRecords, clock: Clock) -> RecordReleases:
    found = RecordReleases(records, "ann", clock)
    found.keep_document("flights", REVISION, TEXT)
    return found


def lines(records: CatalogRecords) -> list[dict[str, Any]]:
    return [json.loads(line.line) for line in records.lines(1)]


def of_document(number: int, text: str) -> dict[str, Any]:
    revision = content_hash(text)
    return {"arms": {"live": {"version": 1, "revision": revision, "models": {"m": str(number)}}}}


def test_each_change_has_one_line_that_says_who_did_what(
    store: RecordReleases, records: CatalogRecords
) -> None:
    first = release(1, author="bob", reason="new model")
    store.commit(first)
    store.freeze(Freeze("carol", "incident", datetime.now(UTC)))
    store.freeze(None)
    store.freeze(None)
    store.keep_document("flights", REVISION, TEXT)
    store.remove("flights")
    store.remove("flights")
    found = [(line["actor"], line["action"], line["subject"], line["reason"]) for line in lines(records)]
    assert found == [
        ("ann", "document.store", f"flights/{REVISION}", ""),
        ("bob", "release.change", "flights", "new model"),
        ("carol", "automation.freeze", "all", "incident"),
        ("ann", "automation.unfreeze", "all", ""),
        ("ann", "release.remove", "flights", ""),
    ]
    assert lines(records)[1]["details"] == {"number": "1", "parent": "0", "sha256": sha256_of(first)}


def test_going_back_is_named_so(store: RecordReleases, records: CatalogRecords) -> None:
    other = {"live": {"version": 1, "revision": REVISION, "models": {"m": "2"}}}
    store.commit(release(1))
    store.commit(release(2, arms=other))
    store.commit(release(3, restores=1))
    store.commit(release(4))
    store.commit(release(5, restores=1))  # nothing else serves by it
    actions = [line["action"] for line in lines(records)][1:]
    assert actions == ["release.change"] * 2 + ["release.rollback"] + ["release.change"] * 2


def test_old_documents_that_nobody_names_go_with_a_release(
    store: RecordReleases, records: CatalogRecords, clock: Clock
) -> None:
    texts = [f"pipeline: flights\nversion: {number}\n" for number in range(KEPT + 3)]
    for number, text in enumerate(texts, 1):
        store.keep_document("flights", str(content_hash(text)), text)
        store.commit(release(number, **of_document(number, text)))
    store.keep_document("other", REVISION, TEXT)
    stored = records.list("document", "flights/")
    assert len(stored) == KEPT + 4, "they are young"
    clock.now += timedelta(hours=2)
    store.commit(release(KEPT + 4, **of_document(0, texts[-1])))
    named = {str(content_hash(text)) for text in texts[-KEPT + 1 :]}
    assert {record.name for record in records.list("document", "flights/")} == {f"flights/{n}" for n in named}
    assert store.document("other", REVISION) == TEXT
    deleted = [w for w in lines(records)[-1]["writes"] if w["kind"] == "document"]
    assert {w["sha256"] for w in deleted} == {None}
    for found in store.history("flights"):
        assert all(store.document("flights", revision) for revision in found.revisions())


def test_a_lease_that_has_ended_fences(store: RecordReleases, records: CatalogRecords) -> None:
    lease = LeaseToken("ladder", records.take_lease("ladder", "me", 3600))
    store.fence_by(lambda: lease)
    store.commit(release(1))
    records.give_back(lease)
    with pytest.raises(FencedError):
        store.commit(release(2))
    assert store.current("flights")[0].number == 1
    lease = LeaseToken("ladder", records.take_lease("ladder", "me", 3600))
    store.commit(release(2))


def test_numbers_go_on_after_several_removals(store: RecordReleases) -> None:
    number = 0
    for count in (2, 1, 3):
        for _ in range(count):
            number += 1
            store.keep_document("flights", REVISION, TEXT)
            store.commit(release(number))
        assert [r.number for r in store.history("flights")] == list(range(number, number - count, -1))
        store.remove("flights")
    with pytest.raises(StaleError) as stale:
        store.commit(release(1))
    assert stale.value.number == 6


def test_what_was_changed_by_another_one_meanwhile_is_looked_at_again(
    store: RecordReleases, records: CatalogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the change another process releases."""
    change = records.change

    def slow(made: Any) -> Any:
        monkeypatch.setattr(records, "change", change)
        RecordReleases(records).commit(release(1, author="another"))
        return change(made)

    monkeypatch.setattr(records, "change", slow)
    with pytest.raises(StaleError) as stale:
        store.commit(release(1))
    assert stale.value.number == 1
    assert store.current("flights")[0].author == "another"


def test_a_database_that_has_less_than_the_data_plane_can_t_be_changed(
    store: RecordReleases, records: CatalogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RecordsDivergedError("decide first: headrace recover")

    monkeypatch.setattr(records, "change", refuse)
    for change in (
        lambda: store.commit(release(1)),
        lambda: store.freeze(Freeze("me", "", datetime.now(UTC))),
        lambda: store.keep_document("flights", "0" * 64, "x"),
    ):
        with pytest.raises(RecordsUnavailableError, match="headrace recover"):
            change()


def test_an_unreadable_freeze_is_one(store: RecordReleases, records: CatalogRecords) -> None:
    store.freeze(Freeze("me", "", datetime.now(UTC)))
    records.change(Change("me", "x", "all", [Write("freeze", "all", b"{}")]))
    assert store.frozen().author == "unknown"


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("control:", "name where control is"),
        ("control:nowhere", "is not host:port"),
        ("control:unix-dir:relative", "absolute path"),
        ("control:unix:/s?more=1", "more is no option"),
        ("control:h:1?ca=/ca.pem", "belong together"),
        ("control:h:1?ca", "can't be read"),
    ],
)
def test_a_place_that_is_none_is_refused_with_what_is_wrong(place: str, problem: str) -> None:
    with pytest.raises(PlaceError, match=problem.replace("?", r"\?")):
        open_store(place)


def test_a_place_names_certificates() -> None:
    store = open_store(
        "control:dns:control:7100?ca=/ca.pem&certificate=/c.pem&key=/k.pem&server_name=control"
    )
    assert isinstance(store, RecordReleases)
    with pytest.raises(OSError, match="certificates"):
        store.pipelines()
    store.close()


def test_a_release_without_its_document_is_refused(store: RecordReleases) -> None:
    with pytest.raises(ReleaseError, match=r"arms\.live\.revision"):
        store.commit(release(1, **of_document(1, "pipeline: other\n")))

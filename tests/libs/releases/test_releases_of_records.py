"""Releases among records, with the audit's lines, documents, leases."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.catalog.access import Change, LeaseToken, Made, Write
from headrace.catalog.errors import LeaseLostError, RecordsDivergedError, RecordsUnavailableError
from headrace.catalog.records import CatalogRecords
from headrace.pipeline import content_hash
from headrace.releases import Freeze, FrozenError, ReleaseError, StaleError
from headrace.releases.document import MAX_BYTES, to_bytes
from headrace.releases.of_records import RecordReleases, facts
from headrace.releases.store import KEPT, REMOVED, Broken
from tests.libs.releases.release_stores import REVISION, TEXT, release
from tests.released import database, keep_document, spoil

UNREADABLE = Change("me", "x", "all", [Write("freeze", "all", b"{}")])


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CatalogRecords]:
    found = CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)
    yield found
    found.close()


@pytest.fixture
def store(records: CatalogRecords) -> RecordReleases:
    found = RecordReleases(records, "ann")
    keep_document(found, "flights", REVISION, TEXT)
    return found


def lines(records: CatalogRecords) -> list[dict[str, Any]]:
    return [json.loads(line.line) for line in records.lines(1)]


def of_document(number: int, text: str) -> dict[str, Any]:
    revision = content_hash(text)
    return {"arms": {"live": {"version": 1, "revision": revision, "models": {"m": str(number)}}}}


def test_each_change_has_one_line(store: RecordReleases, records: CatalogRecords) -> None:
    first = release(1, author="bob", reason="new model")
    store.commit(first)
    store.freeze(Freeze("carol", "incident", datetime.now(UTC)))
    store.freeze(None)
    store.freeze(None)
    store.remove("flights")
    store.remove("flights")
    found = [(line["actor"], line["action"], line["subject"], line["reason"]) for line in lines(records)]
    assert found == [
        ("tests", "document.store", f"flights/{REVISION}", ""),
        ("bob", "release.change", "flights", "new model"),
        ("carol", "automation.freeze", "all", "incident"),
        ("ann", "automation.unfreeze", "all", ""),
        ("ann", "release.remove", "flights", ""),
    ]
    assert lines(records)[1]["details"] == {"number": "1", "parent": "0", "sha256": facts(first)["sha256"]}


def test_going_back_is_named_so(store: RecordReleases, records: CatalogRecords) -> None:
    other = {"live": {"version": 1, "revision": REVISION, "models": {"m": "2"}}}
    store.commit(release(1))
    store.commit(release(2, arms=other))
    store.commit(release(3, restores=1))
    store.commit(release(4))
    store.commit(release(5, restores=1))  # nothing else serves by it
    actions = [line["action"] for line in lines(records)][1:]
    assert actions == ["release.change"] * 2 + ["release.rollback"] + ["release.change"] * 2


def test_old_documents_go(store: RecordReleases, records: CatalogRecords) -> None:
    texts = [f"pipeline: flights\nversion: {number}\n" for number in range(KEPT + 3)]
    keep_document(store, "other", REVISION, TEXT)
    for number, text in enumerate(texts, 1):
        documents = {str(content_hash(text)): text, "0" * 64: "nobody names it"}
        store.commit(release(number, **of_document(number, text)), documents)
    store.commit(release(KEPT + 4, **of_document(0, texts[5])))
    named = {str(content_hash(text)) for text in texts[-KEPT + 1 :]}
    stored = {record.name for record in records.list("document", "flights/")}
    assert stored == {f"flights/{n}" for n in {*named, REVISION}}
    assert store.document("other", REVISION) == TEXT
    deleted = [
        w for line in lines(records) for w in line["writes"] if (w["kind"], w["sha256"]) == ("document", None)
    ]
    assert [w["name"] for w in deleted] == [f"flights/{content_hash(text)}" for text in texts[:4]]
    for found in store.history("flights"):
        assert all(store.document("flights", revision) for revision in found.revisions())


def test_a_lease_that_has_ended_fences(store: RecordReleases, records: CatalogRecords) -> None:
    lease = LeaseToken("ladder", records.take_lease("ladder", "me", 3600))
    store.commit(release(1), lease=lease)
    records.give_back(lease)
    with pytest.raises(LeaseLostError):
        store.commit(release(2), lease=lease)
    assert store.current("flights")[0].number == 1
    lease = LeaseToken("ladder", records.take_lease("ladder", "me", 3600))
    store.commit(release(2), lease=lease)


def test_automation_that_is_stopped_meanwhile_changes_nothing(
    store: RecordReleases, records: CatalogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(release(1), automatic=True)
    change = records.change

    def frozen_just_before(made: Change) -> Made:
        monkeypatch.setattr(records, "change", change)
        store.freeze(Freeze("carol", "incident", datetime.now(UTC)))
        return change(made)

    monkeypatch.setattr(records, "change", frozen_just_before)
    with pytest.raises(FrozenError, match="carol"):
        store.commit(release(2), automatic=True)
    assert store.current("flights")[0].number == 1
    store.commit(release(2))
    store.freeze(None)
    store.commit(release(3), automatic=True)


def test_numbers_go_on_after_several_removals(store: RecordReleases) -> None:
    number = 0
    for count in (2, 1, 3):
        for _ in range(count):
            number += 1
            keep_document(store, "flights", REVISION, TEXT)
            store.commit(release(number))
        assert [r.number for r in store.history("flights")] == list(range(number, number - count, -1))
        store.remove("flights")
    with pytest.raises(StaleError) as stale:
        store.commit(release(1))
    assert stale.value.number == 6


def test_less_than_the_data_plane(
    store: RecordReleases, records: CatalogRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RecordsDivergedError("decide first: headrace recover")

    monkeypatch.setattr(records, "change", refuse)
    attempts: list[Callable[[], None]] = [
        lambda: store.commit(release(1)),
        lambda: store.freeze(Freeze("me", "", datetime.now(UTC))),
    ]
    for change in attempts:
        with pytest.raises(RecordsUnavailableError, match="headrace recover"):
            change()


@pytest.mark.parametrize(("number", "parent"), [(3, 1), (4, 3), (2, 2), (2, 0)])
def test_a_stale_change_changes_nothing(store: RecordReleases, number: int, parent: int) -> None:
    for made in range(1, 4 if number == 2 else 3):
        store.commit(release(made))
    kept, before = store.history("flights"), store.records.position()
    with pytest.raises(StaleError, match=r"^release of flights: number: .* look and try again$") as stale:
        store.commit(release(number, parent=parent))
    assert stale.value.number == kept[0].number
    with pytest.raises(ReleaseError, match=r"arms\.live\.revision"):
        store.commit(release(len(kept) + 1, **of_document(1, "pipeline: other\n")))
    assert (store.history("flights"), store.records.position()) == (kept, before)


@pytest.mark.parametrize(
    ("spoiled", "key"),
    [
        (lambda content: content.replace(b'"m": "1"', b'"m": "2"'), "sha256: the document was altered"),
        (lambda content: content[: len(content) // 2], "can't be read"),
        (lambda content: b"", "can't be read"),
        (lambda content: b"[" * 100_000, "can't be read"),
        (lambda content: b'{"sha256": 3}', "sha256"),
        (lambda content: content + b" " * MAX_BYTES, "larger than"),
        (lambda content: to_bytes(release(1)), "number: the "),
        (lambda content: to_bytes(release(2, "other")), "pipeline: the document is that of 'other'"),
    ],
)
def test_a_broken_newest_release(
    tmp_path: Path, store: RecordReleases, spoiled: Callable[[bytes], bytes], key: str
) -> None:
    store.commit(release(1))
    store.commit(release(2))
    spoil(database(tmp_path), "flights", 2, spoiled(to_bytes(release(2))))
    current, broken = store.current("flights")
    assert (current.number, broken.pipeline, broken.number) == (1, "flights", 2)
    assert key in broken.problem
    assert [r.number for r in store.history("flights")] == [1]
    # Its number stays taken: what follows must say that it follows it.
    with pytest.raises(StaleError):
        store.commit(current.next("me", "mend"))
    store.commit(current.next("me", "mend", after=broken.number))
    assert store.current("flights")[0].number == 3
    for number in (1, 3):
        spoil(database(tmp_path), "flights", number, b"{}")
    current, broken = store.current("flights")
    assert (current, broken.number) == (None, 3)


def test_what_one_changes_another_sees(records: CatalogRecords, store: RecordReleases) -> None:
    reader, frozen = RecordReleases(records), Freeze("me", "größer", datetime.now(UTC))
    keep_document(store, "other", REVISION, TEXT)
    store.commit(release(1, "other"))
    store.commit(release(1))
    store.freeze(frozen)
    assert (reader.pipelines(), reader.frozen()) == (["flights", "other"], frozen)
    store.freeze(None)
    store.remove("flights")
    assert (reader.frozen(), reader.current("flights")) == (None, (None, Broken("flights", 1, REMOVED)))
    records.change(UNREADABLE)
    assert reader.frozen().author == "unknown"
    assert (reader.pipelines(), reader.document("flights", REVISION)) == (["other"], None)

"""Releases among records, beyond what all stores do: the audit's lines, old documents, leases."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
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
from headrace.releases.place import PlaceError, open_store
from headrace.releases.store import KEPT, REMOVED, Broken
from tests.libs.releases.release_stores import REVISION, TEXT, release
from tests.released import database, spoil

# Longer than any test may take: a `wait` that is not woken fails by it, and never passes.
LONG_S = 50.0
UNREADABLE = Change("me", "x", "all", [Write("freeze", "all", b"{}")])


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CatalogRecords]:
    found = CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)
    yield found
    found.close()


@pytest.fixture
def store(records: CatalogRecords) -> RecordReleases:
    found = RecordReleases(records, "ann")
    found.keep_document("flights", REVISION, TEXT)
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
    for number, text in enumerate(texts, 1):
        store.keep_document("flights", str(content_hash(text)), text)
        store.commit(release(number, **of_document(number, text)))
    store.keep_document("other", REVISION, TEXT)
    stored = records.list("document", "flights/")
    assert len(stored) == KEPT + 4, "they are young"
    later = datetime.now(UTC) + timedelta(hours=2)
    RecordReleases(records, "ann", lambda: later).commit(release(KEPT + 4, **of_document(0, texts[-1])))
    named = {str(content_hash(text)) for text in texts[-KEPT + 1 :]}
    assert {record.name for record in records.list("document", "flights/")} == {f"flights/{n}" for n in named}
    assert store.document("other", REVISION) == TEXT
    deleted = [w for w in lines(records)[-1]["writes"] if w["kind"] == "document"]
    assert {w["sha256"] for w in deleted} == {None}
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
            store.keep_document("flights", REVISION, TEXT)
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
        lambda: store.keep_document("flights", "0" * 64, "x"),
    ]
    for change in attempts:
        with pytest.raises(RecordsUnavailableError, match="headrace recover"):
            change()


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("/var/lib/releases", "name where control is"),
        ("control:", "name where control is"),
        ("control:nowhere", "is not host:port"),
        ("control:unix-dir:relative", "absolute path"),
        ("control:unix:/s?more=1", "more is no option"),
        ("control:h:1?ca=/ca.pem", "belong together"),
        ("control:h:1?ca", "can't be read"),
    ],
)
def test_a_place_that_is_none_is_refused_with_what_is_wrong(place: str, problem: str) -> None:
    with pytest.raises(PlaceError, match=re.escape(problem)):
        open_store(place)


def test_a_place_names_certificates() -> None:
    store = open_store(
        "control:dns:control:7100?ca=/ca.pem&certificate=/c.pem&key=/k.pem&server_name=control"
    )
    assert isinstance(store, RecordReleases)
    with pytest.raises(OSError, match="certificates"):
        store.pipelines()
    store.close()


@pytest.mark.parametrize(("number", "parent"), [(3, 1), (4, 3), (2, 2), (2, 0)])
def test_a_stale_change_changes_nothing(store: RecordReleases, number: int, parent: int) -> None:
    for made in range(1, 4 if number == 2 else 3):
        store.commit(release(made))
    kept, before = store.history("flights"), store.wait("", 0)
    with pytest.raises(StaleError, match=r"^release of flights: number: .* look and try again$") as stale:
        store.commit(release(number, parent=parent))
    assert stale.value.number == kept[0].number
    with pytest.raises(ReleaseError, match=r"arms\.live\.revision"):
        store.commit(release(len(kept) + 1, **of_document(1, "pipeline: other\n")))
    assert (store.history("flights"), store.wait(before, 0)) == (kept, before)


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


def test_what_one_changes_another_hears_of(records: CatalogRecords, store: RecordReleases) -> None:
    def removed() -> None:
        store.remove("flights")
        store.remove("flights")

    reader, frozen = RecordReleases(records), Freeze("me", "größer", datetime.now(UTC))
    store.keep_document("other", REVISION, TEXT)
    store.commit(release(1, "other"))
    state = reader.wait("", LONG_S)
    assert reader.wait(state, 0) == state
    changes: list[tuple[Callable[[], object], Callable[[], bool]]] = [
        (lambda: store.commit(release(1)), lambda: reader.pipelines() == ["flights", "other"]),
        (lambda: store.freeze(frozen), lambda: reader.frozen() == frozen),
        (lambda: store.freeze(None), lambda: reader.frozen() is None),
        (removed, lambda: reader.current("flights") == (None, Broken("flights", 1, REMOVED))),
        (lambda: records.change(UNREADABLE), lambda: reader.frozen().author == "unknown"),
    ]
    for change, seen in changes:
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(reader.wait, state, LONG_S)
            change()
            assert waiting.result() != state
        assert seen()
        state = reader.wait("", 0)
    assert (reader.pipelines(), reader.document("flights", REVISION)) == (["other"], None)
    with ThreadPoolExecutor(3) as threads:
        ended = [threads.submit(reader.wait, state, LONG_S) for _ in range(3)]
        reader.close()
        assert [one.result() for one in ended] == [state] * 3

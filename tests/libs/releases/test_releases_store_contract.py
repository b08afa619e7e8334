"""What every store of releases does: in files, in a real Redis, in a database and through a real control."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from headrace.releases import Freeze, StaleError
from headrace.releases.document import MAX_BYTES, to_bytes
from headrace.releases.place import open_store
from headrace.releases.store import KEPT, REMOVED, Broken, ReleaseStore
from tests.libs.releases.release_stores import REVISION, TEXT, Place, release

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
# Longer than any test may take: a `wait` that is not woken fails by it, and never passes.
LONG_S = 120.0


@pytest.fixture
def store(place: Place) -> ReleaseStore:
    found = place.open()
    found.keep_document("flights", REVISION, TEXT)
    return found


def numbers(store: ReleaseStore, pipeline: str = "flights") -> list[int]:
    return [r.number for r in store.history(pipeline)]


@pytest.mark.parametrize(("number", "parent"), [(1, 0), (3, 1), (4, 3), (2, 2), (2, 0)])
def test_a_stale_change_is_refused_and_changes_nothing(store: ReleaseStore, number: int, parent: int) -> None:
    store.commit(release(1))
    if (number, parent) != (1, 0):
        store.commit(release(2))
        if number == 2:
            store.commit(release(3))
    kept = store.history("flights")
    before = store.wait("", 0)
    with pytest.raises(StaleError, match=r"^release of flights: number: .* look and try again$") as stale:
        store.commit(release(number, parent=parent))
    assert stale.value.number == kept[0].number
    assert store.history("flights") == kept
    assert store.wait(before, 0) == before


def test_ten_are_kept(store: ReleaseStore) -> None:
    for number in range(1, KEPT + 4):
        store.commit(release(number))
    assert numbers(store) == list(range(KEPT + 3, 3, -1))
    assert store.document("flights", REVISION) == TEXT


def committing(setting: str, rounds: int, who: str, results: Callable[[tuple[str, int]], None]) -> None:
    """Commits as often as it can: after each success or refusal it looks again."""
    store = open_store(setting)
    wins = 0
    while wins < rounds:
        current, _ = store.current("flights")
        assert current is not None
        try:
            store.commit(current.next(who, str(wins)))
        except StaleError:
            continue
        wins += 1
        results((who, current.number + 1))
    store.close()


def test_exactly_one_of_many_threads_wins_a_number(place: Place, store: ReleaseStore) -> None:
    begin = threading.Barrier(8)

    def attempt(who: int) -> bool:
        own = place.open()
        begin.wait()
        try:
            own.commit(release(1, author=f"t{who}"))
        except StaleError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1
    current, broken = store.current("flights")
    assert broken is None
    assert current.number == 1


# A database of SQLite is one process'.
@pytest.mark.parametrize("place", ["files", "redis", "control"], indirect=True)
def test_exactly_one_of_many_processes_wins_each_number(place: Place, store: ReleaseStore) -> None:
    store.commit(release(1))
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        won = manager.list()
        writers = [
            context.Process(target=committing, args=(place.setting, 8, f"p{i}", won.append)) for i in range(3)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        found = sorted(won, key=lambda one: one[1])
    assert [number for _, number in found] == list(range(2, 2 + 3 * 8))
    authors = {r.number: r.author for r in store.history("flights")}
    assert authors.items() <= {number: who for who, number in found}.items() | {1: "test"}.items()


@pytest.mark.parametrize(
    ("spoil", "key"),
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
def test_the_last_good_one_serves_while_the_newest_is_broken(
    place: Place, store: ReleaseStore, spoil: Callable[[bytes], bytes], key: str
) -> None:
    store.commit(release(1))
    store.commit(release(2))
    place.spoil("flights", 2, spoil(to_bytes(release(2))))
    current, broken = store.current("flights")
    assert (current.number, broken.pipeline, broken.number) == (1, "flights", 2)
    assert key in broken.problem
    assert numbers(store) == [1]
    # Its number stays taken: what follows must say that it follows it.
    with pytest.raises(StaleError):
        store.commit(current.next("me", "mend"))
    store.commit(current.next("me", "mend", after=broken.number))
    assert store.current("flights")[0].number == 3
    for number in (1, 3):
        place.spoil("flights", number, b"{}")
    current, broken = store.current("flights")
    assert (current, broken.number) == (None, 3)


def test_a_pipeline_is_taken_out_of_service(place: Place, store: ReleaseStore) -> None:
    store.keep_document("other", REVISION, TEXT)
    for name in ("flights", "other"):
        store.commit(release(1, name))
        store.commit(release(2, name))
    reader = place.open()
    state = reader.wait("", 0)
    store.remove("flights")
    assert reader.wait(state, 0) != state
    assert reader.pipelines() == ["other"]
    assert reader.current("flights") == (None, Broken("flights", 2, REMOVED))
    assert reader.document("flights", REVISION) is None
    assert numbers(reader, "other") == [2, 1]
    store.remove("flights")
    # Numbers go on: what was counted for release 1 must never count for another one.
    store.keep_document("flights", REVISION, TEXT)
    with pytest.raises(StaleError):
        store.commit(release(1))
    store.commit(release(3))
    assert (reader.pipelines(), numbers(reader, "flights")) == (["flights", "other"], [3])


def test_waiting_ends_by_what_another_changes(place: Place, store: ReleaseStore) -> None:
    def commit() -> None:
        store.commit(release(1))

    def freeze() -> None:
        store.freeze(Freeze("me", "", NOON))

    def unfreeze() -> None:
        store.freeze(None)

    reader = place.open()
    state = reader.wait("", LONG_S)
    assert reader.wait(state, 0) == state
    for change in (commit, freeze, unfreeze):
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(reader.wait, state, LONG_S)
            change()
            assert waiting.result() != state
        state = reader.wait("", 0)
    store.commit(release(2))  # before the wait: it ends at once
    assert reader.wait(state, LONG_S) != state


def test_closing_ends_all_waits(place: Place) -> None:
    reader = place.open()
    state = reader.wait("", LONG_S)
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(reader.wait, state, LONG_S) for _ in range(3)]
        reader.close()
        assert [w.result() for w in waiting] == [state] * 3

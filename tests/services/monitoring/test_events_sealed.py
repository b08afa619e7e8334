"""Segments that are sealed: nothing plain is on the disk; what can't be opened waits for its key; damaged ones are set aside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.encryption import is_sealed
from headrace.encryption.stores import Seen
from headrace.events import Mask
from services.monitoring.events.erasure import Erasure, erase
from services.monitoring.events.query import Query, find
from services.monitoring.events.storage.files import sealed_files
from services.monitoring.outcomes.records import StorageError
from tests.encryption_keys import Keys
from tests.services.monitoring.monitoring_events import World, group
from tests.services.monitoring.monitoring_outcomes import NOW

# What `group` makes of the number 123456789.
PLANTED = (b"k123456789", b"r123456789")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def world(tmp_path: Path, keys: Keys) -> Iterator[World]:
    made = World(tmp_path / "events", keys.sealer)
    yield made
    made.close()


def stored(world: World, first: int, count: int = 3) -> None:
    """In a closed segment of their own."""
    world.stored(group(first, count, now=NOW + first))


def requests(world: World) -> list[str]:
    return sorted(str(e["request_id"]) for e in find(world.store, Query(limit=1000)).events)


def named(first: int, last: int) -> list[str]:
    return [f"r{n}" for n in range(first, last + 1)]


def locked(world: World) -> float:
    return float(world.metrics.segments._locked._value.get())


def planted(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(word in path.read_bytes() for word in PLANTED)]


def next_process(world: World) -> None:
    world.abandon()
    world.again()


def tried_again(world: World) -> None:
    world.clock.now += 11
    world.store.close_due()


def test_nothing_plain_is_on_the_disk(world: World, tmp_path: Path) -> None:
    plain = World(tmp_path / "plain")
    for one in (plain, world):
        one.take(group(123456789, 1), durable=True)
    # So that would be seen.
    assert planted(plain.folder)
    assert planted(world.folder) == []
    [path] = (world.folder / "open").iterdir()
    assert is_sealed(path.read_bytes())
    world.store.close_due(everything=True)
    [path] = world.segments
    assert is_sealed(path.read_bytes())
    assert planted(world.folder) == []
    assert requests(world) == ["r123456789"]
    plain.close()


def test_segments_from_before_stay_readable(world: World, tmp_path: Path) -> None:
    plain = World(tmp_path / "events")
    stored(plain, 1)
    plain.take(group(4, 3))
    plain.abandon()
    plain.close()
    next_process(world)
    stored(world, 7)
    assert requests(world) == named(1, 9)
    # The one that was open is closed by this process, and so sealed.
    assert sorted(is_sealed(path.read_bytes()) for path in world.segments) == [False, True, True]
    world.store.close()
    (world.folder / "index.sqlite").unlink()
    world.again()
    assert requests(world) == named(1, 9)
    assert world.take(group(1, 10)) == (1, 0)


def test_a_segment_has_the_name_of_what_is_in_it(world: World, tmp_path: Path) -> None:
    plain = World(tmp_path / "plain")
    events = group(1, 3)
    for one in (plain, world):
        one.stored(events)
    assert [p.name for p in plain.segments] == [p.name for p in world.segments]
    plain.close()


def test_what_can_not_be_opened_waits_for_its_key(world: World, keys: Keys) -> None:
    stored(world, 1)
    [first] = world.segments
    keys.replace()
    next_process(world)
    stored(world, 4)
    found = find(world.store, Query())
    assert (found.unreadable, locked(world)) == ([first.name], 1)
    assert sorted(str(e["request_id"]) for e in found.events) == named(4, 6)
    assert first.exists()
    keys.file.unlink()
    keys.put_back()
    tried_again(world)
    # This process has the key of the newer one at hand, but another would not.
    assert locked(world) == 0
    assert first.name not in find(world.store, Query()).unreadable


def test_without_keys_the_plain_ones_are_served(world: World, keys: Keys) -> None:
    stored(world, 1)
    world.sealer = lambda: None
    next_process(world)
    stored(world, 4)
    assert requests(world) == named(4, 6)
    assert locked(world) == 1
    world.sealer = keys.sealer
    next_process(world)
    assert requests(world) == named(1, 6)


def test_what_an_index_lacks_is_taken_in_when_its_key_is_back(world: World, keys: Keys) -> None:
    stored(world, 1)
    world.take(group(4, 3))
    world.abandon()
    (world.folder / "index.sqlite").unlink()
    keys.replace()
    world.again()
    assert (requests(world), locked(world)) == ([], 2)
    keys.put_back()
    tried_again(world)
    assert (requests(world), locked(world)) == (named(1, 6), 0)
    assert world.take(group(1, 6)) == (0, 0)


def test_retention_goes_by_the_name_where_the_key_is_lost(world: World, keys: Keys) -> None:
    stored(world, 1)
    world.abandon()
    (world.folder / "index.sqlite").unlink()
    keys.replace()
    world.again()
    world.store.sweep()
    assert len(world.segments) == 1
    world.wall.now = NOW + 8 * 86_400
    world.store.sweep()
    assert (world.segments, locked(world)) == ([], 0)


@pytest.mark.parametrize("end", [b"torn", bytes(4096)])
def test_an_open_segment_is_taken_up_without_its_torn_end(world: World, end: bytes) -> None:
    world.take(group(1, 3), durable=True)
    world.take(group(4, 3), durable=True)
    [path] = (world.folder / "open").iterdir()
    world.abandon()
    with path.open("ab") as file:
        file.write(end)
    world.again()
    assert requests(world) == named(1, 6)
    assert list((world.folder / "unreadable").iterdir()) == []


def test_events_before_a_damaged_part_are_kept(world: World) -> None:
    world.take(group(1, 3))
    [path] = (world.folder / "open").iterdir()
    size = path.stat().st_size
    world.take(group(4, 3))
    world.abandon()
    content = bytearray(path.read_bytes())
    content[size + 20] ^= 1
    path.write_bytes(content)
    world.again()
    assert requests(world) == named(1, 3)
    assert [p.name for p in (world.folder / "unreadable").iterdir()] == [f"{path.name}.unreadable"]
    # The router sends them again.
    assert world.take(group(1, 6)) == (3, 0)


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_segment_is_set_aside(world: World, cut: bool) -> None:
    stored(world, 1)
    stored(world, 4)
    path, other = world.segments
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content[:-1] if cut else content)
    found = find(world.store, Query())
    assert found.unreadable == [path.name]
    assert world.segments == [other]
    assert locked(world) == 0
    assert requests(world) == named(4, 6)


def test_a_segment_opens_by_no_other_name(world: World) -> None:
    stored(world, 1)
    stored(world, 4)
    path, other = world.segments
    path.write_bytes(other.read_bytes())
    assert find(world.store, Query()).unreadable == [path.name]


def test_an_erasure_names_what_it_could_not_open(world: World, keys: Keys) -> None:
    stored(world, 1)
    world.take(group(4, 3))
    [opened] = (world.folder / "open").iterdir()
    [closed] = world.segments
    keys.replace()
    next_process(world)
    stored(world, 7)
    erased = erase(world.store, Erasure("acme", whole_tenant=True), Mask(None))
    assert erased.events == 3
    assert sorted(erased.unreadable) == sorted([opened.name, closed.name])
    assert closed.exists()
    assert opened.exists()


def test_keys_that_are_away_are_like_a_disk_that_can_not_be_written(world: World, keys: Keys) -> None:
    assert world.take(group(1, 3)) == (3, 0)
    world.store.close_due(everything=True)
    keys.take_away()
    # The data key is used on for a while.
    keys.now = 900
    assert world.take(group(4, 3)) == (3, 0)
    world.store.close_due(everything=True)
    keys.now = 1001
    assert world.take(group(7, 3)) == (0, 3)
    with pytest.raises(StorageError) as told:
        world.take(group(7, 3), durable=True)
    assert str(keys.file) not in str(told.value)
    assert requests(world) == named(1, 6)
    keys.put_back()
    assert world.take(group(7, 3), durable=True) == (3, 0)
    world.store.close_due(everything=True)
    assert requests(world) == named(1, 9)


def test_a_query_that_needs_keys_that_are_away_says_so(world: World, keys: Keys) -> None:
    stored(world, 1)
    next_process(world)
    keys.take_away()
    with pytest.raises(StorageError, match="can't be reached") as told:
        find(world.store, Query())
    assert str(keys.file) not in str(told.value)
    keys.put_back()
    assert requests(world) == named(1, 3)


def test_all_files_are_rewrapped_but_those_that_are_written(world: World, keys: Keys) -> None:
    stored(world, 1)
    world.take(group(4, 3))
    keys.kms.rotate()
    files, sealer = sealed_files(world.folder), keys.sealer()
    [closed, opened] = files.files()
    assert files.look(closed) == Seen(frozenset({"headrace/1"}))
    assert files.rewrap(closed, sealer)
    assert not files.rewrap(closed, sealer)
    assert files.look(closed) == Seen(frozenset({"headrace/2"}))
    with pytest.raises(BlockingIOError):
        files.rewrap(opened, sealer)
    world.abandon()
    assert files.rewrap(opened, sealer)
    keys.kms.retire("headrace/1")
    world.again()
    assert requests(world) == named(1, 6)


def test_a_segment_that_is_removed_meanwhile_does_not_come_back(
    world: World, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(world, 1)
    keys.kms.rotate()
    sealer, files = keys.sealer(), sealed_files(world.folder)
    [path] = world.segments
    rewrapped = sealer.rewrapped

    def slow(content: bytes) -> bytes | None:
        fresh = rewrapped(content)
        world.store.closed.remove(path.name)
        return fresh

    monkeypatch.setattr(sealer, "rewrapped", slow)
    with pytest.raises(FileNotFoundError):
        files.rewrap(path, sealer)
    assert world.segments == []

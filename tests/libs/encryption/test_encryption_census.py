"""Files of sealed lines are counted, claimed by one process, rewrapped in one step and told apart; versions are retired."""

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace.encryption import DamagedError, DataKeys, EncryptionMetrics, LockedError, Sealer, Seen
from headrace.encryption import lines as sealing
from headrace.encryption.census import Census
from headrace.encryption.files import claimed, new_claimed
from headrace.encryption.kms.file_kms import FileKms, make
from tests.services.monitoring.monitoring_outcomes import Log


class Store:
    """Files of lines in a folder; counts how often they are looked at."""

    name = "lines"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.looked = 0

    def files(self) -> Sequence[Path]:
        return sorted(self._folder.glob("*.lines"))

    def look(self, path: Path) -> Seen:
        self.looked += 1
        return sealing.look(path)

    def rewrap(self, path: Path, sealer: Sealer) -> bool:
        return sealing.rewrap(path, sealer)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make(tmp_path / "keys", "test")
    return tmp_path / "keys"


def sealer(keys: Path, metrics: EncryptionMetrics | None = None) -> Sealer:
    return Sealer(DataKeys(FileKms(keys), 300, 1000, lambda: 0.0, metrics))


def test_files_are_counted_by_what_they_need(keys: Path, tmp_path: Path) -> None:
    one = sealing.seal_line(sealer(keys), b"1", "a")
    FileKms(keys).rotate()
    two = sealing.seal_line(sealer(keys), b"2", "a")
    for name, content in (
        ("old", one),
        ("both", one + two),
        ("mixed", b"{}\n" + two),
        ("cut", two[:20] + b"\n"),
    ):
        (tmp_path / f"{name}.lines").write_bytes(content)
    store, census = Store(tmp_path), Census()
    found = census.tally(store, ["test/1", "test/2"])
    assert found.by_version == {"test/1": 2, "test/2": 2}
    assert (found.files, found.sealed, found.plain, found.locked, found.damaged) == (4, 2, 1, 0, 1)
    found = census.tally(store, ["test/2"])
    assert (found.sealed, found.plain, found.locked, found.damaged) == (0, 1, 2, 1)
    assert store.looked == 4
    assert store.rewrap(tmp_path / "both.lines", sealer(keys))
    assert census.tally(store, ["test/2"]).locked == 1
    assert store.looked == 5


def test_what_is_sealed_since_a_rotation_is_not_locked(keys: Path, tmp_path: Path) -> None:
    """A service seals with the new version between the question for the versions and the look at the files."""
    store, census, kms = Store(tmp_path), Census(), FileKms(keys)

    def versions() -> list[str]:
        found = kms.versions()
        if found == ["test/1"]:
            kms.rotate()
            (tmp_path / "new.lines").write_bytes(sealing.seal_line(sealer(keys), b"1", "a"))
        return found

    found = census.counted(store, versions)
    assert (found.sealed, found.locked) == (1, 0)
    make(tmp_path / "others", "other")
    (tmp_path / "foreign.lines").write_bytes(sealing.seal_line(sealer(tmp_path / "others"), b"1", "a"))
    found = census.counted(store, versions)
    assert (found.sealed, found.locked) == (1, 1)


def test_a_line_that_is_being_appended_is_not_damaged(keys: Path, tmp_path: Path) -> None:
    whole, part = (sealing.seal_line(sealer(keys), text, "a") for text in (b"1", b"2" * 9000))
    (tmp_path / "a.lines").write_bytes(whole + part[:4095])
    found = Census().tally(Store(tmp_path), ["test/1"])
    assert (found.sealed, found.damaged) == (1, 0)


def test_a_rewrapped_file_opens_and_keeps_its_other_lines(keys: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.lines"
    damaged = b"SFJTRUFM!!\n"
    path.write_bytes(b"{}\n" + sealing.seal_line(sealer(keys), b"what was said", "a") + damaged)
    path.chmod(0o600)
    FileKms(keys).rotate()
    assert sealing.rewrap(path, sealer(keys))
    assert not sealing.rewrap(path, sealer(keys))
    FileKms(keys).retire("test/1")
    plain, sealed, last = path.read_bytes().splitlines(keepends=True)
    assert (plain, last, path.stat().st_mode & 0o777) == (b"{}\n", damaged, 0o600)
    assert sealing.open_line(sealer(keys), sealed, "a") == b"what was said"


def test_a_file_that_is_locked_is_left_as_it_is(keys: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.lines"
    path.write_bytes(content := sealing.seal_line(sealer(keys), b"x", "a"))
    make(tmp_path / "others", "other")
    with pytest.raises(LockedError):
        sealing.rewrap(path, sealer(tmp_path / "others"))
    assert path.read_bytes() == content


def test_the_current_version_is_not_retired(keys: Path) -> None:
    with pytest.raises(ValueError, match="is the current one"):
        FileKms(keys).retire("test/1")
    with pytest.raises(ValueError, match="there is no key test/7"):
        FileKms(keys).retire("test/7")


def test_the_metrics_tell_what_was_not_opened_and_for_how_long_the_keys_are_away(
    keys: Path, tmp_path: Path
) -> None:
    registry, now = CollectorRegistry(), [0.0]
    log = Log()
    metrics = EncryptionMetrics(registry, lambda: now[0]).logged(log)
    made = Sealer(DataKeys(FileKms(keys), 300, 1000, lambda: now[0], metrics))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"headrace_encryption_{name}", labels)

    def told(away_s: float) -> None:
        """A scrape tries the keys; the one after it tells how that went."""
        value("keys_away_seconds")
        assert metrics._trying is not None
        metrics._trying.join()
        assert value("keys_away_seconds") == away_s

    line = sealing.seal_line(made, b"x", "a")
    assert value("sealed_total") == 1
    with pytest.raises(DamagedError):
        sealing.open_line(made, line, "b")
    assert value("unopened_total", why="damaged") == 1
    make(tmp_path / "others", "other")
    with pytest.raises(LockedError):
        sealing.open_line(sealer(tmp_path / "others", metrics), line, "a")
    assert value("unopened_total", why="locked") == 1
    told(0)
    hidden = keys.rename(tmp_path / "hidden")
    now[0] = 40.0
    told(0)
    now[0] = 60.0
    told(20)
    assert value("keys_problem", problem="missing") == 1
    assert value("keys_problem", problem="damaged") == 0
    keys.write_text("{")
    keys.chmod(0o600)
    now[0] = 80.0
    told(40)
    assert value("keys_problem", problem="missing") == 0
    assert value("keys_problem", problem="damaged") == 1
    hidden.replace(keys)
    now[0] = 100.0
    told(0)
    assert value("keys_problem", problem="damaged") == 0
    # Each once, however often the keys were tried.
    away, back = (
        "the keys that files are sealed with can't be used",
        "the keys that files are sealed with are here again",
    )
    assert log.events == [away, away, back]


@pytest.mark.parametrize(
    "take", [Path.unlink, lambda path: path.rename(path.with_name("aside"))], ids=["removed", "moved"]
)
def test_what_another_took_before_it_was_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: Callable[[Path], object]
) -> None:
    lock, names = fcntl.flock, [tmp_path / "two", tmp_path / "one"]

    def slowly(descriptor: int, operation: int) -> None:
        """Another process finds the file first, as one that a killed process left empty."""
        if operation == fcntl.LOCK_EX and (tmp_path / "one").exists():
            with claimed(tmp_path / "one") as ours:
                assert ours
                take(tmp_path / "one")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", slowly)
    descriptor, path = new_claimed(names.pop)
    os.write(descriptor, b"what was answered")
    assert path == tmp_path / "two"
    assert path.read_bytes() == b"what was answered"
    with claimed(path) as ours:
        assert not ours
    os.close(descriptor)
    with claimed(path) as ours:
        assert ours


def test_a_name_that_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(FileExistsError):
        new_claimed(lambda: tmp_path / "one")

"""The file of outcomes when the disk is full, the process killed, or the file damaged."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.records import Judged, Recorded, StorageError
from tests.disks import fill, tiny_disk
from tests.services.monitoring.monitoring_outcomes import NOW, Log, exposure, outcome, store_at

ROOT = Path(__file__).parents[3]


def test_a_full_disk_refuses_all_of_a_call_and_heals_by_itself_at_the_start_too(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        filler = fill(folder, "filler")
        store = store_at(folder / "o")
        with pytest.raises(StorageError):
            store.record("acme", [outcome("before")], NOW)
        filler.unlink()
        assert store.record("acme", [outcome("before")], NOW).new == 1
        filler = fill(folder, "filler")
        many = [outcome(f"{i}-{'x' * 100}") for i in range(1000)]
        with pytest.raises(StorageError, match="full"):
            store.record("acme", many, NOW)
        filler.unlink()
        assert store.record("acme", many, NOW) == Recorded(1000, 1000)
        assert store.record("acme", [outcome("before")], NOW) == Recorded(0, 0, repeated=1)
        store.close()


def test_a_folder_that_cannot_be_made_is_said_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = store_at(tmp_path / "file" / "o")
    with pytest.raises(StorageError) as raised:
        store.record("acme", [outcome("a")], NOW)
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize("repeat", range(3))
def test_what_was_stored_survives_a_kill_in_the_middle(tmp_path: Path, repeat: int) -> None:
    path = tmp_path / "o"
    command = [sys.executable, "-m", "tests.services.monitoring.writing_process", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stored = -1
        for line in process.stdout:
            stored = int(line)
            if stored == 5 + 3 * repeat:
                process.kill()
                break
        stored = max([stored, *map(int, process.stdout.read().split())])
    store = store_at(path)
    for number in range(stored + 1):
        assert store.record("acme", [outcome(f"{number}-{i}") for i in range(50)], NOW).new == 0
    # A call is there as a whole or not at all.
    assert store.record("acme", [outcome(f"{stored + 1}-{i}") for i in range(50)], NOW).new in (0, 50)


def damage(path: Path, how: str) -> None:
    if how == "other file":
        path.write_bytes(b"This was never a database. " * 500)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with path.open("r+b") as file:
            file.seek(1024)
            file.write(os.urandom(path.stat().st_size - 1024))


@pytest.mark.parametrize("how", ["other file", "overwritten"])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path: Path, how: str) -> None:
    path, log = tmp_path / "o", Log()
    store = store_at(path)
    for start in range(0, 3000, 1000):
        store.record("acme", [outcome(str(i)) for i in range(start, start + 1000)], NOW)
    store.close()
    damage(path, how)
    found = path.read_bytes()
    again = store_at(path, log)
    with pytest.raises(StorageError, match="put aside"):
        again.record("acme", [outcome("17")], NOW)
    assert log.events == ["the file of outcomes was damaged; it was put aside and a new one begun"]
    assert (tmp_path / "o.damaged.1").read_bytes()[1024:] == found[1024:]
    assert again.record("acme", [outcome("17")], NOW).new == 1
    again.close()


def test_three_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "o"
    for number in range(5):
        path.write_text(f"damage number {number} " * 100)
        store = store_at(path)
        with pytest.raises(StorageError):
            store.record("acme", [outcome("a")], NOW)
        store.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"o.damaged.{n}" for n in (1, 2, 3)]
    assert (tmp_path / "o.damaged.1").read_text().startswith("damage number 4")


async def test_exposures_wait_while_the_disk_is_full(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        log, metrics = Log(), Metrics(CollectorRegistry())
        recorder = Recorder(store_at(folder / "o", log), metrics, log, lambda: NOW)
        filler = fill(folder, "filler")
        await recorder.expose([exposure("a", late=1.0)])
        with pytest.raises(StorageError):
            await recorder.record("acme", [outcome("a", 0.0)])
        filler.unlink()
        await recorder.record("acme", [outcome("a", 0.0)])
        await recorder.expose([])
        assert log.events == ["outcomes can't be stored", "outcomes are stored again"]
        check = store_at(folder / "o")
        assert check.judged("flights") == {(3, "live"): Judged(1, 1)}
        check.close()
        await recorder.close()


async def test_exposures_beyond_the_bound_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitoring.outcomes.recorder._WAITING", 3)
    (tmp_path / "file").write_text("")
    registry = CollectorRegistry()
    recorder = Recorder(store_at(tmp_path / "file" / "o"), Metrics(registry), Log(), lambda: NOW)
    await recorder.expose([exposure(str(i)) for i in range(5)])
    await recorder.expose([exposure("x")])
    assert registry.get_sample_value("headrace_monitoring_lost_exposures_total") == 3
    assert registry.get_sample_value("headrace_monitoring_storage_failing") == 1
    await recorder.close()

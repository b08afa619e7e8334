"""The file of facts when the disk is full, the process killed, the file damaged, or another process has it."""

import os
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from services.monitoring.database import columns
from services.monitoring.database.facts import Facts
from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.recorder import Recorder
from services.monitoring.outcomes.records import Judged, Recorded, StorageError
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.wiring import SERVICE
from tests.disks import fill, tiny_disk
from tests.postgres_server import PostgresServer
from tests.services.monitoring.monitoring_outcomes import NOW, Log, exposure, facts_at, outcome

ROOT = Path(__file__).parents[3]
FAILING = "failing"


def test_the_database_has_what_the_code_sees(facts: Facts) -> None:
    def columns_of(connection: sa.Connection) -> dict[str, set[str]]:
        found = sa.inspect(connection)
        return {name: {c["name"] for c in found.get_columns(name)} for name in found.get_table_names()}

    assert SERVICE, "all tables are imported"
    made = facts.query(columns_of)
    seen = {name: {*table.c.keys()} for name, table in columns._TABLES.tables.items()}
    assert made == seen | {name: made[name] for name in ("schema_info", "alembic_version")}


def test_a_full_disk_refuses_all_of_a_call_and_heals_by_itself_at_the_start_too(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder, closing(facts_at(folder / "o")) as facts:
        filler, store = fill(folder, "filler"), OutcomeStore(facts)
        with pytest.raises(StorageError):
            store.record("acme", [outcome("before")], NOW)
        filler.unlink()
        assert store.record("acme", [outcome("before")], NOW).new == 1
        filler = fill(folder, "filler")
        many = [outcome(f"{i}-{'x' * 100}") for i in range(1000)]
        with pytest.raises(StorageError, match="no room"):
            store.record("acme", many, NOW)
        filler.unlink()
        assert store.record("acme", many, NOW) == Recorded(1000, 1000)
        assert store.record("acme", [outcome("before")], NOW) == Recorded(0, 0, repeated=1)


def test_a_folder_that_cannot_be_made_is_said_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    facts = facts_at(tmp_path / "file" / "o")
    with pytest.raises(StorageError) as raised:
        OutcomeStore(facts).record("acme", [outcome("a")], NOW)
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
                with closing(facts_at(path)) as facts, pytest.raises(StorageError, match="another process"):
                    OutcomeStore(facts).judged("flights")
                process.kill()
                break
        stored = max([stored, *map(int, process.stdout.read().split())])
    with closing(facts_at(path)) as facts:
        store = OutcomeStore(facts)
        for number in range(stored + 1):
            assert store.record("acme", [outcome(f"{number}-{i}") for i in range(50)], NOW).new == 0
        # A call is there as a whole or not at all.
        assert store.record("acme", [outcome(f"{stored + 1}-{i}") for i in range(50)], NOW).new in (0, 50)


@pytest.mark.parametrize("how", ["other file", "overwritten"])
def test_a_damaged_file_is_refused_until_it_is_restored(tmp_path: Path, how: str) -> None:
    path, log, registry = tmp_path / "o", Log(), CollectorRegistry()
    with closing(facts_at(path)) as facts:
        for start in range(0, 3000, 1000):
            OutcomeStore(facts).record("acme", [outcome(str(i)) for i in range(start, start + 1000)], NOW)
    good = path.read_bytes()
    path.write_bytes(b"no database " * 1000 if how == "other file" else good[:1024] + os.urandom(len(good)))
    damaged = path.read_bytes()
    with closing(facts_at(path, log, registry)) as facts:
        for _ in range(2):
            with pytest.raises(StorageError, match="restore it from a backup"):
                OutcomeStore(facts).record("acme", [outcome("17")], NOW)
        assert log.events == ["facts can't be stored"]
        assert registry.get_sample_value(FAILING) == 1
        assert path.read_bytes() == damaged
        path.write_bytes(good)
        assert OutcomeStore(facts).record("acme", [outcome("17")], NOW) == Recorded(0, 0, repeated=1)
        assert log.events == ["facts can't be stored", "facts are stored again"]
        assert registry.get_sample_value(FAILING) == 0


def test_a_postgresql_that_was_away_is_used_again(
    postgres_address: str, postgres_server: PostgresServer
) -> None:
    log = Log()
    with closing(facts_at(postgres_address, log)) as facts:
        store = OutcomeStore(facts)
        store.record("acme", [outcome("a")], NOW)
        postgres_server.stop()
        try:
            with pytest.raises(StorageError, match="does not answer"):
                store.record("acme", [outcome("b")], NOW)
        finally:
            postgres_server.start()
        assert store.record("acme", [outcome("a"), outcome("b")], NOW) == Recorded(1, 1, repeated=1)
    assert log.events == ["facts can't be stored", "facts are stored again"]


def test_without_an_address_facts_go_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(facts_at()) as facts:
        assert OutcomeStore(facts).record("acme", [outcome("a")], NOW).new == 1
    assert list(tmp_path.iterdir()) == []


async def test_exposures_wait_while_the_disk_is_full(tmp_path: Path) -> None:
    log, metrics = Log(), Metrics(CollectorRegistry())
    with tiny_disk(tmp_path) as folder, closing(facts_at(folder / "o", log)) as facts:
        store = OutcomeStore(facts)
        recorder = Recorder(facts, store, metrics, log, lambda: NOW)
        filler = fill(folder, "filler")
        await recorder.expose([exposure("a", late=1.0)])
        with pytest.raises(StorageError):
            await recorder.record("acme", [outcome("a", 0.0)])
        filler.unlink()
        await recorder.record("acme", [outcome("a", 0.0)])
        await recorder.expose([])
        assert log.events == ["facts can't be stored", "facts are stored again"]
        assert store.judged("flights") == {(3, "live"): Judged(1, 1)}


async def test_exposures_beyond_the_bound_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitoring.outcomes.recorder._WAITING", 3)
    (tmp_path / "file").write_text("")
    registry = CollectorRegistry()
    facts = facts_at(tmp_path / "file" / "o", registry=registry)
    recorder = Recorder(facts, OutcomeStore(facts), Metrics(registry), Log(), lambda: NOW)
    await recorder.expose([exposure(str(i)) for i in range(5)])
    await recorder.expose([exposure("x")])
    assert registry.get_sample_value("headrace_monitoring_lost_exposures_total") == 3
    assert registry.get_sample_value(FAILING) == 1

"""The database of facts when the disk is full, the file damaged, PostgreSQL away."""

import os
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from services.monitoring.accuracy.keeper import AccuracyKeeper
from services.monitoring.accuracy.metrics import AccuracyMetrics
from services.monitoring.accuracy.observer import PredictionObserver
from services.monitoring.accuracy.settings import AccuracySettings
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database import columns
from services.monitoring.database.facts import Facts
from services.monitoring.events.allowance import Allowance
from services.monitoring.outcomes.records import Recorded, StorageError
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.wiring import SERVICE
from tests.disks import fill, tiny_disk
from tests.services.monitoring.monitoring_events import answered
from tests.services.monitoring.monitoring_outcomes import NOW, Log, facts_at, outcome

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
        assert store.record("acme", [outcome("before")], NOW) == Recorded(0, 1, repeated=1)


def test_a_folder_that_cannot_be_made_is_said_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    facts = facts_at(tmp_path / "file" / "o")
    with pytest.raises(StorageError) as raised:
        OutcomeStore(facts).record("acme", [outcome("a")], NOW)
    assert str(tmp_path) not in str(raised.value)


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
        assert OutcomeStore(facts).record("acme", [outcome("17")], NOW) == Recorded(0, 1, repeated=1)
        assert log.events == ["facts can't be stored", "facts are stored again"]
        assert registry.get_sample_value(FAILING) == 0


def test_without_an_address_facts_go_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(facts_at()) as facts:
        assert OutcomeStore(facts).record("acme", [outcome("a")], NOW).new == 1
    assert list(tmp_path.iterdir()) == []


async def test_predictions_wait_while_the_disk_is_full(tmp_path: Path) -> None:
    log = Log()
    with tiny_disk(tmp_path) as folder, closing(facts_at(folder / "o", log)) as facts:
        metrics, store = AccuracyMetrics(CollectorRegistry()), AccuracyStore(facts, 3600.0)
        observer = PredictionObserver(Allowance(1.0, 1), lambda *_: None, metrics.left_out.inc)
        keeper = AccuracyKeeper(AccuracySettings(), observer, store, facts, metrics, lambda: NOW)
        filler = fill(folder, "filler")
        observer.observe_group(answered([1]), NOW)
        with pytest.raises(StorageError):
            await keeper.step()
        filler.unlink()
        await keeper.step()
        assert log.events == ["facts can't be stored", "facts are stored again"]
        assert OutcomeStore(facts).record("acme", [outcome("r1")], NOW) == Recorded(1, 0)

"""A person who is erased is nowhere in what monitoring keeps, and nobody else is touched."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headrace.events import Mask
from services.monitoring.accuracy.records import Chosen, Maker, Prediction
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.events.files.arrow import unpacked
from services.monitoring.events.values import Erasure, Subject
from services.monitoring.explanations.records import Explanation
from services.monitoring.explanations.store import ExplanationStore
from services.monitoring.outcomes.records import Outcome
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_events import SALT, World, group
from tests.services.monitoring.monitoring_outcomes import NOW

# In request id, key and input of the person, and of nobody else.
PERSON, OTHER = 900_001, 900_002
MASK = Mask(SALT)


def tell_all(world: World) -> None:
    """Events of three requests, one of them the person's, one of another tenant; and all that follows from them."""
    events = group(900_000, 3, tenants=("acme", "acme", "beta"), mask=MASK)
    world.take(events)
    rows = list(zip(events.batch.rows.tenants, events.batch.rows.request_ids, strict=True))
    keys = [n - 900_000 for n in (900_000, PERSON, OTHER)]
    made = [
        Prediction(tenant, request, 0, NOW, {"late": 1.0}, None, key)
        for (tenant, request), key in zip(rows, keys, strict=True)
    ]
    AccuracyStore(world.facts, 60.0).add({Maker("flights", 5, "live", "v", Chosen.BY_CHANCE): made}, NOW)
    outcomes, explanations = OutcomeStore(world.facts), ExplanationStore(world.facts)
    for tenant, request in rows:
        for value in (1.0, 0.0):  # the second contradicts the first
            outcomes.record(tenant, [Outcome(request, 0, "late", value, True, NOW)], NOW)
    ids = events.batch.columns["@event_id"].ragged.to_list()
    for (tenant, request), identity in zip(rows, ids, strict=True):
        said = identity, tenant, "flights", "f" * 64, "live", "y", 0.5, 0.75, True
        explanations.add([Explanation(*said, (request,), (0.5,), (0.0,), ("null",))], b"", NOW)


def places(folder: Path, number: int) -> set[str]:
    """Tables and kinds of files in which the number is, as a text, a value or the hash of the key."""
    hashed = MASK.hash("key", f"k{number}".encode())
    found = set()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        if str(number).encode() in raw or hashed in raw:
            found.add(f"bytes of {path.suffix}")
        values = {path.suffix: [pq.read_table(path).to_pylist()]} if path.suffix == ".parquet" else {}
        if path.suffix == ".sqlite":
            values = dict(tables(path))
        found |= {
            place
            for place, rows in values.items()
            if str(number) in repr(rows) or repr(hashed)[2:-1] in repr(rows)
        }
    return found


def tables(path: Path) -> Iterator[tuple[str, list[object]]]:
    with closing(sqlite3.connect(path)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [column[1] for column in db.execute(f"PRAGMA table_info({name})")]
            rows: list[object] = db.execute(f"SELECT * FROM {name}").fetchall()
            if name == "event_batches":
                rows = [unpacked(row[columns.index("content")]).to_pylist() for row in rows]  # type: ignore[index]  # a tuple
            yield name, rows


ROWS = {"outcomes", "predictions", "contradictions", "explanations"}


@pytest.mark.parametrize("closed", [False, True], ids=["waiting", "in files"])
@pytest.mark.parametrize(
    "who",
    [
        Erasure("acme", (Subject("key", f"k{PERSON}"),)),
        Erasure("acme", (Subject("x", str(PERSON)),)),
        Erasure("acme", request_ids=(f"r{PERSON}",)),
        Erasure("acme", whole_tenant=True),
    ],
    ids=["masked", "plain", "request", "tenant"],
)
def test_a_person_who_is_erased_is_nowhere(tmp_path: Path, who: Erasure, *, closed: bool) -> None:
    world = World(tmp_path)
    tell_all(world)
    if closed:
        world.stored()
    before = places(tmp_path, PERSON)
    assert before > ROWS
    assert bool(before & {".parquet"}) is closed
    assert bool(before & {"event_batches"}) is not closed
    assert world.erase(who, MASK).events == (2 if who.whole_tenant else 1)
    # With the process the write-ahead log goes.
    world.close()
    assert places(tmp_path, PERSON) == set()
    assert places(tmp_path, OTHER) > {*ROWS, ".parquet"}
    assert bool(places(tmp_path, 900_000) & ROWS) is not who.whole_tenant
    with closing(sqlite3.connect(tmp_path / "facts.sqlite")) as db:
        # Each key counts once as before, but nobody has it.
        keys = [key for (key,) in db.execute("SELECT key FROM judgements")]
    assert len(set(keys)) == 3
    assert (1 in keys, 2 in keys) == (False, True)


@pytest.mark.parametrize(
    "who",
    [Erasure("acme", request_ids=(f"r{PERSON}",)), Erasure("acme", whole_tenant=True)],
    ids=["request", "tenant"],
)
def test_what_outlives_the_events_is_erased_too(tmp_path: Path, who: Erasure) -> None:
    world = World(tmp_path)
    tell_all(world)
    world.stored()
    world.wall.now = NOW + 8 * 86_400
    assert world.store.sweep() == 3
    assert world.erase(who, MASK).events == 0
    world.close()
    # Nothing but its own id says whose an explanation of an event is that is gone.
    assert places(tmp_path, PERSON) == ({"explanations", "bytes of .sqlite"} if who.request_ids else set())
    assert places(tmp_path, OTHER) > {"outcomes"}

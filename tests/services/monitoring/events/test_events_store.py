"""Events: each once, found, read, erased, swept; what does not fit on the disk costs nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.columns import DType
from headrace.events import EventGroup, Mask
from headrace.hop.errors import Code, Reason
from services.monitoring.events.query import find, read
from services.monitoring.events.reception import Reception
from services.monitoring.events.values import Erasure, MaskedError, Query, Subject
from services.monitoring.outcomes.records import StorageError
from tests.disks import fill, tiny_disk
from tests.services.monitoring.events.event_places import Place, erase, requests
from tests.services.monitoring.monitoring_events import SALT, World, group
from tests.services.monitoring.monitoring_outcomes import NOW

_DAY_S = 86_400.0


def test_a_number_that_comes_twice_is_stored_once(world: Place) -> None:
    assert world.take(group(1, 4)) == (4, 0)
    assert world.take(group(1, 4)) == (0, 0)
    assert world.take(group(3, 4)) == (2, 0)
    assert world.take(group(1, 4), epoch=8) == (4, 0)
    world.store.close_due(everything=True)
    world.again()
    assert world.take(group(1, 7)) == (1, 0)
    assert len(requests(world)) == 11


def test_gaps_are_what_was_noted_and_never_came_also_after_a_restart(world: Place) -> None:
    counts = Reception(world.store, Mask(None), (), world.metrics, world.wall, world.log)
    world.take(group(1, 3), noted=3)
    world.take(group(6, 2), noted=9)
    for missing in (0, 4):  # at first they may be on their way
        stream = world.store.manifest.streams()[7]
        assert stream.received.gaps(stream.noted)[:1] == [(4, 5)]
        counts._measure(world.store)
        assert world.metrics.missing._value.get() == missing
        world.store.close_due(everything=True)
    assert stream.received.gaps(stream.noted) == [(4, 5), (8, 9)]
    world.again()
    stream = world.store.manifest.streams()[7]
    assert (stream.replica, stream.received.gaps(stream.noted)) == ("router-1", [(4, 5), (8, 9)])


def test_events_are_found_by_id_tenant_request_and_time_waiting_and_in_files(world: Place) -> None:
    world.take(group(1, 4, tenants=("acme", "beta")))
    for _ in range(2):
        [event] = find(world.store, Query(request_id="r2")).events
        assert event["prediction_id"] == "r2/0"
        assert find(world.store, Query(request_id="r2", row=0)).events == [event]
        assert find(world.store, Query(request_id="r2", row=1)).events == []
        assert find(world.store, Query(event_id=bytes.fromhex(str(event["event_id"])))).events == [event]
        assert requests(world, Query(tenant="beta")) == ["r2", "r4"]
        assert requests(world, Query(pipeline="other")) == []
        assert requests(world, Query(first_us=int(NOW * 1e6) + 10)) == []
        assert [e["request_id"] for e in find(world.store, Query(limit=2)).events] == ["r4", "r3"]
        world.store.close_due(everything=True)
    assert event["inputs"] == {"x": 2, "key": "k2", "vector": [1.0, 1.0, 1.0]}
    assert (event["outputs"], event["fallbacks"], event["cached"]) == ({"y": 2.0}, ["store:default"], True)
    assert (event["stage_us"], event["busy_us"], event["code"]) == ({"sum": 6}, 10, "OK")
    assert event["models"] == [{"stage": "sum", "model": "adder", "version": "7", "sha256": "ab" * 32}]


@pytest.mark.parametrize(
    ("reason", "name"),
    [(int(Reason.REASON_INTERNAL), "INTERNAL"), (9999, "9999")],
    ids=["known", "of a newer router"],
)
def test_events_of_failures_are_shown_with_code_and_reason(world: Place, reason: int, name: str) -> None:
    world.take(group(1, 2, failed=(int(Code.INTERNAL), reason)))
    shown = find(world.store, Query()).events
    assert [(e["code"], e["reason"]) for e in shown] == [("INTERNAL", name)] * 2


def columns_of(groups: list[EventGroup]) -> dict[str, list[object]]:
    """Each column's values, nulls as None."""
    found: dict[str, list[object]] = {}
    for one in groups:
        for name, column in one.batch.columns.items():
            values = column.ragged.to_list() if column.dtype is DType.BYTES else column.array.tolist()
            valid = column.is_valid().tolist()
            found.setdefault(name, []).extend(
                v if there else None for v, there in zip(values, valid, strict=True)
            )
    return found


@pytest.mark.parametrize("apart_us", [1, 0])
def test_events_are_read_page_by_page_as_they_were_stored(world: Place, apart_us: int) -> None:
    """Across open and closed segments of two arms whose times overlap, or are the same for all."""
    stored = [
        group(1, 5, apart_us=apart_us),
        group(1, 4, pipeline="other"),
        group(6, 5, mask=Mask(SALT), apart_us=apart_us),
    ]
    world.stored(stored[0], stored[1])
    world.take(stored[2])
    groups, before, pages = list[EventGroup](), None, 0
    while pages == 0 or before is not None:
        page = read(world.store, Query(pipeline="flights", limit=3, before=before))
        groups, before, pages = [*groups, *page.groups], page.last, pages + 1
        assert sum(map(len, page.groups)) <= 3
    assert pages == 4
    expected = columns_of([stored[0], stored[2]])
    found = columns_of(groups)
    order = [int(str(n)) - 1 for n in found["@sequence"]]
    assert order == list(range(9, -1, -1))
    assert found == {name: [values[i] for i in order] for name, values in expected.items()}
    assert {g.batch.columns["vector"].row_shape for g in groups} == {(3,)}
    assert [g.header for g in groups if g.header.masked] == [stored[2].header] * 2


def test_the_newest_are_found_however_segments_overlap(world: Place) -> None:
    """The segment that ends last has few events, and most of them are old."""
    world.stored(group(1, 1, now=NOW), group(2, 1, now=NOW + 60))
    world.stored(group(1, 3, pipeline="other", now=NOW + 30), epoch=8)
    newest = find(world.store, Query(limit=2)).events
    assert [(e["pipeline"], e["request_id"]) for e in newest] == [("flights", "r2"), ("other", "r3")]
    found = find(world.store, Query(last_us=int(NOW * 1e6) + 1_000_000, limit=1)).events
    assert [e["request_id"] for e in found] == ["r1"]


@pytest.mark.parametrize(
    ("who", "left"),
    [
        (Erasure("acme", whole_tenant=True), ["r2", "r4", "r6"]),
        (Erasure("acme", request_ids=("r1", "r2")), ["r2", "r3", "r4", "r5", "r6"]),
        (Erasure("acme", (Subject("key", "k3"),)), ["r1", "r2", "r4", "r5", "r6"]),
        (Erasure("acme", (Subject("key", "k2"),)), ["r1", "r2", "r3", "r4", "r5", "r6"]),
        (Erasure("acme", (Subject("x", "5"), Subject("key", "k1"))), ["r2", "r3", "r4", "r6"]),
        (Erasure("nobody", whole_tenant=True), ["r1", "r2", "r3", "r4", "r5", "r6"]),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_erasure_removes_only_what_it_names(
    world: Place, who: Erasure, left: list[str], masked: bool
) -> None:
    mask = Mask(SALT)
    world.stored(group(1, 3, tenants=("acme", "beta"), mask=mask if masked else None))
    world.take(group(4, 3, tenants=("beta", "acme"), mask=mask if masked else None))
    erased = erase(world, who, mask)
    assert erased.events == 6 - len(left)
    assert requests(world) == left
    assert {file.path for file in world.store.manifest.files()} == set(world.paths)
    assert world.store.check() == []
    # What was erased was received all the same: it is no gap, and does not come back.
    assert world.take(group(1, 6)) == (0, 0)
    assert erase(world, who, mask).events == 0


def test_erasure_by_a_masked_input_needs_the_salt(world: Place) -> None:
    world.take(group(1, 3, mask=Mask(SALT)))
    with pytest.raises(MaskedError, match="key"):
        erase(world, Erasure("acme", (Subject("key", "k1"),), ("r2",)), Mask(None))
    assert requests(world) == ["r1", "r2", "r3"]
    assert erase(world, Erasure("acme", request_ids=("r2",)), Mask(None)).events == 1


def test_retention_is_by_age_of_the_pipeline(place: Callable[..., Place]) -> None:
    world = place(retention={"days": 7.0, "pipelines": {"short": 1.0}, "max_bytes": 1 << 20})
    world.stored(group(1, 3), group(4, 3, pipeline="short"))
    assert world.store.sweep() == 0
    world.wall.now = NOW + 2 * _DAY_S
    assert world.store.sweep() == 3
    assert {e["pipeline"] for e in find(world.store, Query()).events} == {"flights"}
    world.wall.now = NOW + 8 * _DAY_S
    assert world.store.sweep() == 3
    assert world.paths == []


def test_a_full_disk_drops_what_may_be_lost_refuses_what_may_not_and_heals(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        world = World(folder)
        assert world.take(group(1, 10), noted=10) == (10, 0)
        filler = fill(folder, "filler")
        many = group(11, 2000)
        assert world.take(many, noted=2010) == (0, 2000)
        with pytest.raises(StorageError, match="no room"):
            world.take(group(2011, 2000), epoch=9, durable=True)
        filler.unlink()
        assert world.take(group(2011, 5), noted=2015) == (5, 0)
        assert world.take(group(2011, 20), epoch=9, durable=True) == (20, 0)
        world.store.close_due(everything=True)
        stream = world.store.manifest.streams()[7]
        assert stream.received.gaps(stream.noted) == [(11, 2010)]
        assert len(requests(world)) == 35
        world.close()

"""The report of shadows out of a real store: which rows are pairs, and what is said of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.api.monitoring.v1 import shadow_pb2 as pb
from headrace.columns import Column, DType
from headrace.events import CODE, REASON, EventGroup, Mask, messages
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from services.monitoring.queries import shadow
from services.monitoring.queries.shadow import shadow_reports
from services.monitoring.wiring import SERVICE
from tests.services.monitoring.monitoring_calls import call
from tests.services.monitoring.monitoring_calls import report as told
from tests.services.monitoring.monitoring_events import SALT, World, group
from tests.services.monitoring.monitoring_outcomes import NOW


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def answers(
    first: int, count: int, columns: tuple[Column, ...] = (), mask: Mask | None = None, **of: Any
) -> EventGroup:
    """Events whose outputs are y and key; `of`: what their header says instead."""
    made = group(first, count, mask=mask)
    header = replace(made.header, outputs=("y", "key", "vector"), **of)
    return EventGroup(header, made.batch.with_columns(columns))


def shadowed(first: int, count: int, *columns: Column, **of: Any) -> EventGroup:
    return answers(first, count, columns, **{"arm": "next", "shadow_of": "live", **of})


def y(*values: float) -> Column:
    return Column.of("y", np.array(values, np.float32))


def failed(row: int, count: int) -> list[Column]:
    codes, reasons = np.zeros(count, np.uint8), np.zeros(count, np.uint16)
    codes[row], reasons[row] = Code.INTERNAL, Reason.REASON_MODEL_FAILED
    return [Column(CODE, DType.UINT8, codes), Column(REASON, DType.UINT16, reasons)]


def reports(world: World, first_us: int = 0) -> list[pb.ShadowReport]:
    return shadow_reports(world.store, "flights", first_us)[0]


def both_answered(world: World, first_us: int = 0) -> int:
    [found] = reports(world, first_us)
    return found.both_answered_count


def test_rows_of_files_and_batches_are_compared_in_pairs(world: World) -> None:
    world.stored(answers(1, 4, (y(1, 2, 3, 4),)), shadowed(1, 2, y(1, 2.5)))
    world.take(shadowed(3, 2, y(3, 4), *failed(1, 2)), epoch=8)
    [found] = reports(world)
    assert (found.release, found.arm, found.against) == (2, "next", "live")
    assert found.begin_time.ToMicroseconds() == int(NOW * 1e6) + 1
    assert (found.both_answered_count, found.shadow_failed_count) == (3, 1)
    assert found.shadow_errors == {"MODEL_FAILED": 1}
    equal = {output.name: (output.row_count, output.equal_count) for output in found.outputs}
    assert equal == {"y": (3, 2), "key": (3, 3), "vector": (3, 3)}
    worst = found.worst
    assert [(w.prediction_id, w.shadow_error) for w in worst] == [("r4/0", "MODEL_FAILED"), ("r2/0", "")]
    assert worst[1].values == [pb.DifferentValue(output="y", live="2.0", shadow="2.5")]
    # Every other answer is a kept one, whose time says nothing.
    times = pb.Quantiles(value_count=2, p50=1e-5, p90=3e-5, p99=3e-5, max=3e-5)
    assert found.live_seconds == found.shadow_seconds == times
    assert found.live_busy_seconds == found.shadow_busy_seconds == 2e-5


def test_only_the_live_answer_of_the_same_release_tenant_and_row_is_compared(world: World) -> None:
    others = [
        answers(1, 1, release=1),
        answers(2, 1, arm="canary"),
        answers(3, 1, replayed=True),
        EventGroup(answers(4, 1).header, group(4, 1, tenants=("other",)).batch),
        EventGroup(
            answers(5, 1).header,
            group(5, 1).batch.with_columns([Column("@row", DType.UINT32, np.ones(1, np.uint32))]),
        ),
        answers(6, 1),
    ]
    world.take(*others, shadowed(1, 7))
    assert both_answered(world) == 1


def test_requests_that_come_again_are_compared_one_by_one_from_the_newest(world: World) -> None:
    world.stored(answers(1, 1, (y(1),)))  # its shadow was dropped
    for epoch, value in enumerate((2, 3), 8):
        later = Column("@time_us", DType.INT64, group(1, 1).batch.columns["@time_us"].array + epoch)
        world.take(answers(1, 1, (y(value), later)), shadowed(1, 1, y(value), later), epoch=epoch)
    output = reports(world)[0].outputs[0]
    assert (output.name, output.row_count, output.equal_count) == ("y", 2, 2)


def test_the_newest_pairs_count_and_only_since_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.take(answers(1, 9), shadowed(1, 9))
    times = group(1, 9).batch.columns["@time_us"].array
    assert both_answered(world, int(times[4])) == 5
    monkeypatch.setattr(shadow, "_PAIRS", shadow._PAIRS.replace(f"LIMIT {shadow.MOST_PAIRS}", "LIMIT 3"))
    assert reports(world)[0].begin_time.ToMicroseconds() == times[6]


def test_each_release_has_its_report_and_personal_data_is_in_none(world: World) -> None:
    mask = Mask(SALT)
    world.take(answers(1, 2, mask=mask), shadowed(1, 2, mask=mask))
    world.take(answers(3, 2, mask=mask, release=5), shadowed(3, 2, mask=mask, release=5), epoch=8)
    found = reports(world)
    assert [r.release for r in found] == [5, 2]
    assert [[output.name for output in r.outputs] for r in found] == [["y", "vector"]] * 2
    assert not shadow_reports(world.store, "nothing", 0)[0]


@pytest.mark.parametrize("closed", [False, True])
def test_an_output_may_have_had_another_type_in_another_release(world: World, *, closed: bool) -> None:
    world.take(answers(1, 2), shadowed(1, 2))
    texts = (Column.of_text("y", ["a", "b"]),)
    world.take(answers(3, 2, texts, release=5), shadowed(3, 2, *texts, release=5), epoch=8)
    if closed:
        world.stored()
    assert [r.both_answered_count for r in reports(world)] == [2, 2]


def test_a_file_that_can_not_be_read_is_named(world: World) -> None:
    world.stored(answers(1, 2), shadowed(1, 2))
    world.put(world.paths[0], b"x")
    assert shadow_reports(world.store, "flights", 0)[1] == {world.paths[0]}


async def test_operators_get_the_report_over_the_socket(tmp_path: Path) -> None:
    stored = {"database": str(tmp_path / "facts.sqlite"), "events": {"files": str(tmp_path / "events")}}
    async with served(SERVICE, stored) as harness:
        others = Column.of("@sequence", np.array([3, 4])), Column.of("@busy_us", np.array([15, 0]))
        groups = [answers(1, 2, (y(1, 2),)), shadowed(1, 2, y(1, 4), *others)]
        await told(harness, events=messages.write("router-1", 7, 4, groups))
        asked = pb.GetShadowReportRequest(pipeline="flights")
        [found] = (await call(harness, "GetShadowReport", asked)).reports
        assert (found.pipeline, found.release, found.arm, found.against) == ("flights", 2, "next", "live")
        assert [(w.prediction_id, w.values[0].shadow) for w in found.worst] == [("r2/0", "4.0")]
        assert (
            found.live_seconds
            == found.shadow_seconds
            == pb.Quantiles(value_count=1, p50=1e-5, p90=1e-5, p99=1e-5, max=1e-5)
        )
        assert (found.live_busy_seconds, found.shadow_busy_seconds) == (5e-6, 1.5e-5)
        with pytest.raises(Fault, match="pipeline must be named"):
            await call(harness, "GetShadowReport", pb.GetShadowReportRequest())

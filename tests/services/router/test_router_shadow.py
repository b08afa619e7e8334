"""Shadows over sockets: they come after the answer, on the same columns, and nothing of them reaches a caller."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.api.router.v1 import shadow_pb2
from headrace.columns import Batch, Column, RowError
from headrace.comparison import ComparisonReport
from headrace.comparison.messages import read_report
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import parse
from headrace.releases import LIVE, Arm, Release, Shadow
from headrace.releases.catalog import Released
from services.ingress.operations.servicer import SHADOWS
from services.router.pipelines import Compiler, Served
from services.router.routes.observer import chosen_rows
from tests.services.router.router_leaves import SCORED, Suite, batch_of, features, suite
from tests.services.router.test_router_events import running as told
from tests.services.waiting import until

PRIVATE = SCORED.replace("key: {type: string}", "key: {type: string, pii: true}")
Shadowed = Callable[..., None]
OTHER_MODEL = "name: adder", "name: other"


@pytest.fixture
def shadowed(monkeypatch: pytest.MonkeyPatch) -> Shadowed:
    """Gives every pipeline a shadow, as a release would: the same document with a text replaced."""

    def use(old: str, new: str, share: float = 1.0) -> None:
        compiled = Compiler.compile

        def compile_with(self: Compiler, found: Released) -> Served:
            text = SCORED if not any(f.pii for f in found.live.inputs) else PRIVATE
            arms = {LIVE: found.live, "next": parse(text.replace(old, new), "next.yaml")}
            named = {n: Arm(version=p.version, revision=p.revision) for n, p in arms.items()}
            shadow = Shadow(arm="next", share=share)
            release = Release(pipeline=found.live.name, number=7, arms=named, shadow=shadow)
            return compiled(self, Released(arms, release))

        monkeypatch.setattr(Compiler, "compile", compile_with)

    return use


@asynccontextmanager
async def running(folder: Path, text: str = SCORED, **shadow: Any) -> AsyncIterator[Suite]:
    async with suite(folder, {"scored": text}, shadow=shadow) as started:
        yield started


async def report_when(started: Suite, rows: int) -> ComparisonReport:
    """The report, as soon as it has counted so many rows: run or dropped."""
    call = started.router.client().unary(SHADOWS)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while True:
            reply = await call(shadow_pb2.GetShadowReportRequest(pipeline="scored"), deadline=loop.time() + 5)
            for report in map(read_report, reply.reports):
                if report.rows + sum(report.dropped.values()) >= rows:
                    return report
            await asyncio.sleep(0.01)


def metric(started: Suite, name: str, **labels: str) -> float:
    return started.sample(name, **labels) or 0.0


async def refuse_first(batch: Batch) -> Batch:
    error = RowError(Code.INVALID_ARGUMENT, Reason.REASON_STEP_FAILED, "no such key")
    return Batch(batch.rows, {c.name: c for c in features(batch)}, {0: error})


async def test_a_copy_runs_after_the_answer_and_is_compared(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    seen: list[Batch] = []

    async def see(batch: Batch) -> None:
        seen.append(batch)

    async with running(tmp_path) as started:
        started.executor.models["other"] = see
        for i in range(5):
            reply = await started.ask("scored", batch_of(["ab", "abc"], [1.0, -9.0], request_id=f"r{i}"))
            assert reply.batch.columns["y"].array.tolist() == [3.0, -6.0]
            assert [d.route for d in reply.response.decisions] == ["live"]
        report = await report_when(started, 10)
        assert (report.release, report.arm, report.against) == (7, "next", "live")
        assert (report.both_answered, report.shadow_failed) == (10, 0)
        equal = {name: (output.rows, output.equal) for name, output in report.outputs.items()}
        assert equal == {"y": (10, 10), "positive": (10, 10)}
        assert report.worst.sorted() == []
        assert report.live_seconds.count == report.shadow_seconds.count == 10
        # Of the lowest priority and without a trace; with the values that the live run read: one call of the store each.
        assert {p for b in seen for p in b.rows.priorities} == {0}
        assert {t for b in seen for t in b.rows.traceparents} == {""}
        assert started.features.calls == [2] * 5
        # No second effect.
        assert metric(started, "router_rows_total", pipeline="scored", code="OK") == 10
        assert metric(started, "router_shadow_rows_total", pipeline="scored", result="equal") == 10


async def test_what_differs_is_named_without_personal_data(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed("at: 0.0", "at: 5.0")
    other = "y", [4.0, -1.0]
    async with running(tmp_path, PRIVATE) as started:

        async def change(batch: Batch) -> Batch | None:
            if set(batch.rows.priorities) != {0}:
                return None

            return Batch.of(batch.rows, [Column.of("total", np.array(other[1], np.float32))])

        started.executor.hook = change
        await started.ask("scored", batch_of(["ab", "abc"], [1.0, -9.0], request_id="r"))
        report = await report_when(started, 2)
        y = report.outputs["y"]
        assert (y.equal, y.deltas.max) == (0, 5.0)
        worst = report.worst.sorted()
        assert [(w.request_id, w.row, w.values) for w in worst] == [
            ("r", 1, [("y", "-6.0", "-1.0")]),
            ("r", 0, [("y", "3.0", "4.0")]),
        ]
        inputs = worst[0].inputs
        assert inputs is not None
        assert inputs.columns["x"].array.tolist() == [-9.0]
        assert inputs.columns["score"].array.tolist() == [3.0]
        assert "key" not in inputs.columns
        assert worst[0].left_out == ["key"]


async def test_another_features_stage_reads_for_itself(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed("feature_service: users", "feature_service: people")
    async with running(tmp_path) as started:
        await started.ask("scored", batch_of(["ab"], [1.0]))
        report = await report_when(started, 1)
        assert report.both_answered == 1
        assert started.features.calls == [1, 1]


async def test_rows_that_failed_in_the_store_fail_in_both(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    async with running(tmp_path) as started:
        started.features.hook = refuse_first
        await started.ask("scored", batch_of(["ab", "abc"], [1.0, 2.0]))
        report = await report_when(started, 2)
        assert (report.both_failed, report.both_answered, len(started.features.calls)) == (1, 1, 1)


async def test_a_shadow_that_fails_costs_the_live_arm_nothing(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    tried = 0

    async def fail(batch: Batch) -> None:
        nonlocal tried
        tried += len(batch)
        raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "gone")

    async with running(tmp_path) as started:
        started.executor.models["other"] = fail
        for i in range(40):
            reply = await started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
            assert not reply.batch.errors
        report = await report_when(started, 40)
        assert (report.shadow_failed, report.both_answered) == (40, 0)
        # Each row once, until the shadow's own breaker opened.
        assert set(report.errors) <= {"UNREACHABLE", "BREAKER_OPEN"}
        assert tried == report.errors["UNREACHABLE"]
        assert metric(started, "hop_breaker_state", callee="executor", replica="0") == 0
        assert metric(started, "hop_retries_total", callee="executor", method="Execute") == 0
        assert report.worst.sorted()[0].error.startswith(("UNREACHABLE", "BREAKER_OPEN"))


async def test_a_shadow_that_hangs_holds_up_nobody_and_what_does_not_fit_is_counted(
    tmp_path: Path, shadowed: Shadowed
) -> None:
    shadowed(*OTHER_MODEL)
    hangs = asyncio.Event()

    async def hang(batch: Batch) -> None:
        hangs.set()
        await asyncio.Event().wait()

    async with running(tmp_path, max_waiting_rows=5) as started:
        started.executor.models["other"] = hang
        await started.ask("scored", batch_of(["ab"], [1.0], request_id="first"))
        await hangs.wait()
        for i in range(20):
            reply = await started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
            assert not reply.batch.errors
        report = await report_when(started, 15)
        assert report.dropped == {"queue_rows": 15}
        dropped = "router_shadow_dropped_rows_total"
        assert metric(started, dropped, pipeline="scored", reason="queue_rows") == 15
    # The router stopped with a shadow in flight and five that waited.
    assert metric(started, dropped, pipeline="scored", reason="stopped") == 6


async def test_only_the_share_is_copied(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL, share=0.3)
    async with running(tmp_path) as started:
        for i in range(60):
            await started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
        wanted = chosen_rows([f"r{i}" for i in range(60)], 0.3, "shadow-next")
        assert wanted is not None
        report = await report_when(started, len(wanted))
        assert report.rows == len(wanted)


async def test_a_report_of_no_such_pipeline_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as started:
        call = started.router.client().unary(SHADOWS)
        deadline = asyncio.get_running_loop().time() + 5
        request = shadow_pb2.GetShadowReportRequest(pipeline="scored")
        assert not (await call(request, deadline=deadline)).reports
        with pytest.raises(Fault) as error:
            await call(shadow_pb2.GetShadowReportRequest(pipeline="no"), deadline=deadline)
        assert error.value.reason == Reason.REASON_PIPELINE_UNKNOWN


async def test_what_a_shadow_answers_has_events_of_its_own(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    async with told(tmp_path) as world:
        for request in ("one", "two"):
            await world.started.ask("scored", batch_of(["ab", "c"], [1.0, 2.0], request_id=request))
        await until(lambda: sum(map(len, world.receiver.groups)) == 8)
    found: dict[str, set[tuple[str, str, int, float]]] = {}
    for group in world.receiver.groups:
        columns, rows = group.batch.columns, group.batch.rows
        assert (group.header.release, group.header.replayed) == (7, False)
        facts = zip(
            rows.request_ids, columns["@row"].array.tolist(), columns["y"].array.tolist(), strict=True
        )
        arm = group.header.arm
        assert group.header.shadow_of == ("" if arm == "live" else "live")
        found.setdefault(arm, set()).update((group.header.models[0].model, *fact) for fact in facts)
    live = {("adder", r, i, y) for r in ("one", "two") for i, y in enumerate((3.0, 3.0))}
    assert found == {"live": live, "next": {("other", *fact[1:]) for fact in live}}

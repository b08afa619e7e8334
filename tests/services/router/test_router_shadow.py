"""Shadows over sockets: they come after the answer, on the same columns, and nothing of them reaches a caller."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.columns import Batch, RowError
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import parse
from headrace.releases import LIVE, Arm, Release, Shadow
from headrace.releases.catalog import Released
from services.router.pipelines import Compiler, Served
from services.router.routes.observer import chosen_rows
from tests.services.router.router_leaves import SCORED, Suite, batch_of, features, suite
from tests.services.router.test_router_events import running as told
from tests.services.waiting import until

Shadowed = Callable[..., None]
OTHER_MODEL = "name: adder", "name: other"


@pytest.fixture
def shadowed(monkeypatch: pytest.MonkeyPatch) -> Shadowed:
    """Gives every pipeline a shadow, as a release would: the same document with a text replaced."""

    def use(old: str, new: str, share: float = 1.0) -> None:
        compiled = Compiler.compile

        def compile_with(self: Compiler, found: Released) -> Served:
            arms = {LIVE: found.live, "next": parse(SCORED.replace(old, new), "next.yaml")}
            named = {n: Arm(version=p.version, revision=p.revision) for n, p in arms.items()}
            shadow = Shadow(arm="next", share=share)
            release = Release(pipeline=found.live.name, number=7, arms=named, shadow=shadow)
            return compiled(self, Released(arms, release))

        monkeypatch.setattr(Compiler, "compile", compile_with)

    return use


def ran(started: Suite, result: str = "answered") -> float:
    """So many rows ran on the shadow, with this result."""
    return started.sample("router_shadow_rows_total", pipeline="scored", result=result) or 0.0


def dropped(started: Suite, reason: str) -> float:
    return started.sample("router_shadow_dropped_rows_total", pipeline="scored", reason=reason) or 0.0


async def refuse_first(batch: Batch) -> Batch:
    error = RowError(Code.INVALID_ARGUMENT, Reason.REASON_STEP_FAILED, "no such key")
    return Batch(batch.rows, {c.name: c for c in features(batch)}, {0: error})


async def test_a_copy_runs_after_the_answer_and_has_events_of_its_own(
    tmp_path: Path, shadowed: Shadowed
) -> None:
    shadowed(*OTHER_MODEL)
    seen: list[Batch] = []

    async def see(batch: Batch) -> None:
        seen.append(batch)

    async with told(tmp_path) as world:
        started = world.started
        started.executor.models["other"] = see
        for request in ("one", "two"):
            reply = await started.ask("scored", batch_of(["ab", "abc"], [1.0, -9.0], request_id=request))
            assert reply.batch.columns["y"].array.tolist() == [3.0, -6.0]
            assert [d.route for d in reply.response.decisions] == ["live"]
        await until(lambda: sum(map(len, world.receiver.groups)) == 8)
        # Of the lowest priority and without a trace; with the values that the live run read: one call of the store each.
        assert {p for b in seen for p in b.rows.priorities} == {0}
        assert {t for b in seen for t in b.rows.traceparents} == {""}
        assert started.features.calls == [2] * 2
        # No second effect.
        assert started.sample("router_rows_total", pipeline="scored", code="OK") == ran(started) == 4
    found: dict[str, set[tuple[str, str, int, float]]] = {}
    for group in world.receiver.groups:
        columns, arm = group.batch.columns, group.header.arm
        assert (group.header.release, group.header.replayed) == (7, False)
        assert group.header.shadow_of == ("" if arm == "live" else "live")
        ids, rows = group.batch.rows.request_ids, columns["@row"].array.tolist()
        facts = zip(ids, rows, columns["y"].array.tolist(), strict=True)
        found.setdefault(arm, set()).update((group.header.models[0].model, *fact) for fact in facts)
    live = {("adder", r, i, y) for r in ("one", "two") for i, y in enumerate((3.0, -6.0))}
    assert found == {"live": live, "next": {("other", *fact[1:]) for fact in live}}


async def test_another_features_stage_reads_for_itself(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed("feature_service: users", "feature_service: people")
    async with suite(tmp_path, {"scored": SCORED}) as started:
        await started.ask("scored", batch_of(["ab"], [1.0]))
        await until(lambda: ran(started) == 1)
        assert started.features.calls == [1, 1]


async def test_rows_that_failed_in_the_store_fail_in_both(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    async with suite(tmp_path, {"scored": SCORED}) as started:
        started.features.hook = refuse_first
        await started.ask("scored", batch_of(["ab", "abc"], [1.0, 2.0]))
        await until(lambda: ran(started) == 1)
        assert (ran(started, "failed"), len(started.features.calls)) == (1, 1)


async def test_a_shadow_that_fails_costs_the_live_arm_nothing(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL)
    tried = 0

    async def fail(batch: Batch) -> None:
        nonlocal tried
        tried += len(batch)
        raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "gone")

    async with told(tmp_path) as world:
        started = world.started
        started.executor.models["other"] = fail
        for i in range(40):
            reply = await started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
            assert not reply.batch.errors
        await until(lambda: sum(map(len, world.receiver.groups)) == 80)
        assert (ran(started, "failed"), ran(started)) == (40, 0)
        assert started.sample("hop_breaker_state", callee="executor", replica="0") == 0
        assert not started.sample("hop_retries_total", callee="executor", method="Execute")
    reasons = [
        r
        for g in world.receiver.groups
        if g.header.shadow_of
        for r in g.batch.columns["@reason"].array.tolist()
    ]
    # Each row once, until the shadow's own breaker opened.
    assert set(reasons) <= {Reason.REASON_UNREACHABLE, Reason.REASON_BREAKER_OPEN}
    assert tried == reasons.count(Reason.REASON_UNREACHABLE)


async def test_a_shadow_that_hangs_holds_up_nobody_and_what_does_not_fit_is_counted(
    tmp_path: Path, shadowed: Shadowed
) -> None:
    shadowed(*OTHER_MODEL)
    hangs = asyncio.Event()

    async def hang(batch: Batch) -> None:
        hangs.set()
        await asyncio.Event().wait()

    async with suite(tmp_path, {"scored": SCORED}, shadow={"max_waiting_rows": 10}) as started:
        started.executor.models["other"] = hang
        await started.ask("scored", batch_of(["ab", "c"], [1.0, 2.0], request_id="first"))
        await hangs.wait()
        for i in range(20):
            reply = await started.ask("scored", batch_of(["ab", "c"], [1.0, 2.0], request_id=f"r{i}"))
            assert not reply.batch.errors
        assert dropped(started, "queue_rows") == 30
    # The router stopped with a shadow in flight and five that waited, of two rows each.
    assert dropped(started, "stopped") == 12


async def test_only_the_share_is_copied(tmp_path: Path, shadowed: Shadowed) -> None:
    shadowed(*OTHER_MODEL, share=0.3)
    async with told(tmp_path) as world:
        ids = [f"r{i}" for i in range(60)]
        for request in ids:
            await world.started.ask("scored", batch_of(["ab"], [1.0], request_id=request))
        wanted = chosen_rows(ids, 0.3, "shadow-next")
        assert wanted is not None
        await until(lambda: sum(map(len, world.receiver.groups)) == 60 + len(wanted))
    copied = [r for g in world.receiver.groups if g.header.shadow_of for r in g.batch.rows.request_ids]
    assert copied == [ids[i] for i in wanted]

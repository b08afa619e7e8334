"""A cached pipeline over sockets: which services are called, and what a caller sees."""

from __future__ import annotations

from pathlib import Path

from headrace.api.router.v1 import router_pb2
from tests.services.router.router_leaves import SCORED, batch_of, router_method, suite

CACHED = SCORED.replace("deadline_ms: 5000", "deadline_ms: 5000\ncache: {ttl: 1h}").replace(
    "    name: adder\n", '    name: adder\n    version: "7"\n'
)


async def test_a_repeated_row_is_answered_after_its_features_alone(tmp_path: Path) -> None:
    assert "cache:" in CACHED
    assert "version:" in CACHED
    async with suite(tmp_path, {"scored": CACHED}) as running:
        first = await running.ask("scored", batch_of(["ab", "abc"], [1.0, 2.0]))
        again = await running.ask("scored", batch_of(["abc", "ab", "a"], [2.0, 1.0, 0.0]))
        assert first.batch.columns["y"].array.tolist() == [3.0, 5.0]
        assert again.batch.columns["y"].array.tolist() == [5.0, 3.0, 1.0]
        assert again.batch.columns["positive"].array.tolist() == [True, True, True]
        assert "@cached_us" not in first.batch.columns
        assert [age >= 0 for age in again.batch.columns["@cached_us"].array.tolist()] == [True, True, False]
        leaves = (running.features, running.preprocessing, running.executor, running.postprocessing)
        assert [leaf.calls for leaf in leaves] == [[2, 3], [2, 1], [2, 1], [2, 1]]
        # What the features service says of ages is of now.
        assert again.batch.columns["@age_us/user"].array.tolist() == [1000, 1000, 1000]
        assert running.sample("router_cache_rows_total", pipeline="scored", outcome="hit") == 2
        assert running.sample("router_rows_total", pipeline="scored", code="OK") == 5
        stages = {t.stage: t for t in again.batch.timings}
        assert stages["cache"].attributes == {"saved": "prepare sum finish", "rows": "2"}


async def test_an_operators_load_through_the_router_forgets(tmp_path: Path) -> None:
    load = router_method("LoadModel", idempotent=False)
    async with suite(tmp_path, {"scored": CACHED}) as running:
        batch = batch_of(["ab"], [1.0])
        await running.ask("scored", batch)
        deadline = batch.rows.deadlines[0]
        await running.router.client().unary(load)(
            router_pb2.LoadModelRequest(model="adder", version="7"), deadline=deadline
        )
        assert "@cached_us" not in (await running.ask("scored", batch)).batch.columns
        assert "@cached_us" in (await running.ask("scored", batch)).batch.columns

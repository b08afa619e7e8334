"""What an inference counts: the arms that a real route table deals rows to, by weight and by rule, and what raises."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.columns import Batch
from headrace.hop.errors import Fault
from headrace.ticks import ArmFigures, ArmName
from services.router.stages.runner import StageResult
from services.router.ticks.counters import Counted, Counters
from tests.services.router.one_pipeline import inference
from tests.services.router.test_router_routes import Multiplier, batch, rules, two_arms

HOW = Counted(4, compares=True, by="x", salt="s", exposes=True)


class Broken(Multiplier):
    """Ends with a bug."""

    async def run(self, batch: Batch) -> StageResult:
        raise KeyError("y")


async def counted(
    count: int, runner: type[Multiplier] = Multiplier, **changes: Any
) -> tuple[dict[ArmName, ArmFigures], Counters]:
    counters = Counters()
    try:
        found = two_arms(runner, HOW, **changes)
        await inference(found, counters=counters).infer("double", 0, batch(count))
    except (KeyError, ExceptionGroup):
        assert runner is Broken
    return dict(counters.tick().arms), counters


@pytest.mark.parametrize("count", [5, 40])
async def test_rows_by_weight_and_by_rule_are_apart(count: int) -> None:
    arms, counters = await counted(
        count,
        rules=rules(candidate=[1.0], live=[2.0, 3.0]),
        assign={"weights": {"live": 0, "candidate": 1}, "by": "x", "salt": "s"},
    )
    rows = {(name.release, name.arm, name.by_rule): f.rows for name, f in arms.items()}
    assert rows == {(4, "live", True): 2, (4, "candidate", True): 1, (4, "candidate", False): count - 3}
    drawn = arms[ArmName("double", 4, "candidate")]
    assert drawn.assigned.new_keys == drawn.assigned.fresh_rows == count - 3
    # Those that a rule sent say nothing of the arms.
    exposed = [(e.arm.arm, e.row) for e in counters.exposures.next()]
    assert exposed == [("candidate", row) for row in range(count) if row not in (1, 2, 3)]
    assert sum(drawn.outputs["y"].counts) == count - 3


@pytest.mark.parametrize("weights", [{"live": 1, "candidate": 0}, {"live": 0.5, "candidate": 0.5}])
async def test_rows_that_our_own_bug_loses_are_errors(weights: dict[str, float]) -> None:
    arms, _ = await counted(40, Broken, assign={"weights": weights, "by": "x", "salt": "s"})
    # Where one arm breaks the call, the other may not have come so far.
    assert arms
    assert all(f.errors == f.rows > 0 and f.assigned.fresh_bad == f.rows for f in arms.values())


async def test_a_batch_that_does_not_fit_is_no_arms_fault() -> None:
    counters = Counters()
    empty = batch(3)
    empty.columns = {}
    with pytest.raises(Fault):
        await inference(two_arms(counted=HOW), counters=counters).infer("double", 0, empty)
    assert counters.tick().arms == {}

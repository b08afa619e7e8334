"""How many rows of an explanation run at once."""

import pytest

from headrace.columns import Timing
from services.router.explanations.pieces import PieceSize


def worked(us: int, waited: int = 0) -> list[Timing]:
    return [
        Timing("m", "executor", 0, 10 * us, 1),
        Timing("m/queue", "executor", 0, waited, 1),
        Timing("m/run", "executor", 0, us, 1),
        Timing("p/steps", "preprocessing", 0, us // 2, 1),
    ]


@pytest.mark.parametrize(
    ("ran", "rows"),
    [
        pytest.param([(64, worked(400))], 128, id="grows while callees need less than half of the time"),
        pytest.param([(64, worked(400)), (128, worked(600))], 128, id="and no longer"),
        pytest.param([(10, worked(1001))], 32, id="shrinks when a callee needs longer"),
        pytest.param([(10, worked(1001)), *[(8, worked(5000))] * 9], 8, id="and not below the least"),
        pytest.param([(2, worked(20))], 64, id="a small piece says nothing of larger ones"),
        # A stage is longer than its callee.
        pytest.param([(64, worked(400, waited=50_000))], 128, id="waits are no work"),
    ],
)
def test_a_piece_has_as_many_rows_as_callees_manage(ran: list[tuple[int, list[Timing]]], rows: int) -> None:
    size = PieceSize(1000.0, 64)
    for count, timings in ran:
        size.ran(count, timings)
    assert size.rows == rows

"""How many rows of an explanation run at once."""

from headrace.columns import Timing
from services.router.explanations.pieces import PieceSize


def worked(us: int, waited: int = 0) -> list[Timing]:
    return [
        Timing("m", "executor", 0, 10 * us, 1),
        Timing("m/queue", "executor", 0, waited, 1),
        Timing("m/run", "executor", 0, us, 1),
        Timing("p/steps", "preprocessing", 0, us // 2, 1),
    ]


def test_a_piece_grows_while_callees_need_less_than_half_of_the_time() -> None:
    size = PieceSize(1000.0, 64)
    size.ran(64, worked(400))
    assert size.rows == 128
    size.ran(128, worked(600))
    assert size.rows == 128


def test_a_piece_shrinks_when_a_callee_needs_longer() -> None:
    size = PieceSize(1000.0, 64)
    size.ran(10, worked(1001))
    assert size.rows == 32
    for _ in range(9):
        size.ran(8, worked(5000))
    assert size.rows == 8


def test_a_small_piece_says_nothing_of_larger_ones() -> None:
    size = PieceSize(1000.0, 64)
    size.ran(2, worked(20))
    assert size.rows == 64


def test_waits_are_no_work_and_a_stage_is_longer_than_its_callee() -> None:
    size = PieceSize(1000.0, 64)
    size.ran(64, worked(400, waited=50_000))
    assert size.rows == 128

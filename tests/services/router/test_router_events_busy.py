"""How long the services worked for each row, by what they report of batches."""

import numpy as np
import pytest

from headrace.columns import Timing
from services.router.events.busy import busy, busy_columns


def executor(rows: int, *runs: tuple[int, int], stage: str = "light") -> list[Timing]:
    """A call of the executor with so many rows. `runs`: µs and rows of each."""
    own = Timing(stage, "executor", 0, 500, rows, {"model.name": "m", "model.version": "2"})
    ran = [Timing(f"{stage}/run", "executor", 0, us, count) for us, count in runs]
    return [own, Timing(f"{stage}/queue", "executor", 0, 300, rows), *ran]


def features(rows: int, us: int) -> list[Timing]:
    return [
        Timing("store", "features", 0, 1000, rows),
        Timing("store/features", "features", 0, us, rows),
        Timing("store/features/store", "features", 0, us // 2, rows),
    ]


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        (executor(4, (80, 4)), {"executor/m:2": (80.0, 4)}),
        # With rows of others.
        (executor(4, (80, 8)), {"executor/m:2": (40.0, 4)}),
        # Two runs, which report no rows of ours: those of the mean.
        (executor(4, (80, 8), (30, 1)), {"executor/m:2": (80.0, 4)}),
        # What it waited for is within its own time.
        (features(2, 90), {"features": (90.0, 2)}),
        # Two stages of one service.
        (
            [*executor(4, (80, 4)), *executor(2, (20, 1), (60, 2), stage="other")],
            {"executor/m:2": (80.0 + 50.0, 6)},
        ),
        # A part of a stage with several models.
        (
            [Timing("score", "executor", 0, 900, 4), *executor(3, (30, 3), stage="score/heavy")],
            {"executor/m:2": (30.0, 3)},
        ),
        # A service that tells nothing.
        ([Timing("finish", "postprocessing", 0, 100, 4)], {}),
    ],
)
def test_work_by_service(timings: list[Timing], expected: dict[str, tuple[float, int]]) -> None:
    found = busy(timings)
    assert {name: (pytest.approx(us), rows) for name, (us, rows) in expected.items()} == found


def test_rows_of_batches_share_their_own_batch_s_time() -> None:
    batches = [executor(2, (40, 2)), executor(1, (70, 1))]
    [total, model] = busy_columns(list(map(busy, batches)), np.array([2, 1]), np.zeros(3, bool))
    assert model.name == "@busy_us/executor/m:2"
    assert model.array.tolist() == [20.0, 20.0, 70.0]
    assert total.array.tolist() == [20, 20, 70]


def test_kept_answers_cost_only_what_ran_before_the_cache() -> None:
    batches = [[*features(4, 80), *executor(1, (50, 1))], features(1, 10)]
    cached = np.array([True, False, True, True, True])
    columns = {
        c.name: c.array.tolist() for c in busy_columns(list(map(busy, batches)), np.array([4, 1]), cached)
    }
    assert columns["@busy_us/executor/m:2"] == [0.0, 50.0, 0.0, 0.0, 0.0]
    assert columns["@busy_us/features"] == [20.0, 20.0, 20.0, 20.0, 10.0]
    assert columns["@busy_us"] == [20, 70, 20, 20, 10]


def test_without_timings_nothing_is_told() -> None:
    [total] = busy_columns([{}], np.array([2]), np.zeros(2, bool))
    assert total.array.tolist() == [0, 0]

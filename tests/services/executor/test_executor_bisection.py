"""Bad rows are found, good rows kept, and a model that fails on everything is not run for ever."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from services.executor.backends.backend import Tensors
from services.executor.execution.model import FEW_FURTHER_RUNS, FurtherRuns, run_with_bisection
from services.executor.scheduling.run_time import InlinePolicy


class Picky:
    """Doubles x; raises if a row is among the bad."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.runs = 0

    def __call__(self, inputs: Tensors) -> Tensors:
        self.runs += 1
        if self.bad & set(inputs["x"].tolist()):
            raise ValueError("bad row")
        return {"y": inputs["x"] * 2}


@given(st.integers(1, 100), st.sets(st.integers(0, 99)), st.integers(0, 40))
def test_no_bad_row_runs_and_the_good_ones_keep_their_place(rows: int, bad: set[int], most: int) -> None:
    model = Picky(bad)
    outcome = run_with_bisection(model, {"x": np.arange(rows)}, rows, most)
    really_bad = {row for row in bad if row < rows}

    assert model.runs <= 1 + most
    assert (outcome.error is None) == (not really_bad)
    if outcome.ran is None:
        assert outcome.outputs["y"].tolist() == [2 * row for row in range(rows)]
        return
    ran = np.flatnonzero(outcome.ran).tolist()
    assert not really_bad & set(ran)
    assert ran == [] or outcome.outputs["y"].tolist() == [2 * row for row in ran]
    assert outcome.undecided or set(ran) == set(range(rows)) - really_bad


@given(st.integers(1, 100), st.sets(st.integers(0, 99)))
# Every second request of two rows is bad: sixteen further runs are too few to tell them apart.
@example(32, {row for row in range(32) if row // 2 % 2})
def test_all_good_rows_run_whatever_is_beside_them(rows: int, bad: set[int]) -> None:
    outcome = run_with_bisection(Picky(bad), {"x": np.arange(rows)}, rows, FurtherRuns().allowed(rows))
    assert not outcome.undecided
    if outcome.ran is not None:
        assert set(np.flatnonzero(outcome.ran).tolist()) == set(range(rows)) - bad


@given(st.integers(1, 100), st.integers(0, 99))
def test_few_further_runs_find_one_bad_row(rows: int, bad: int) -> None:
    outcome = run_with_bisection(Picky({bad}), {"x": np.arange(rows)}, rows, FEW_FURTHER_RUNS)
    assert not outcome.undecided


def test_nothing_more_is_tried_when_it_is_over() -> None:
    model = Picky({0})
    outcome = run_with_bisection(model, {"x": np.arange(8)}, 8, 16, over=lambda: model.runs >= 3)
    assert model.runs == 3
    assert outcome.error is not None
    assert outcome.undecided


def test_a_model_that_fails_on_everything_gets_few_runs_until_a_row_succeeds() -> None:
    further, none, one = FurtherRuns(), np.zeros(50, bool), np.arange(50) == 7
    assert further.allowed(50) == 100
    further.learn(50, none)
    assert not further.hopeless
    further.learn(50, none)
    assert further.allowed(50) == FEW_FURTHER_RUNS
    further.learn(50, one)
    assert further.allowed(50) == 100


def test_the_inline_policy_has_hysteresis() -> None:
    policy = InlinePolicy(0.0003)

    expected = [0.0, 0.0001, 0.00035, 0.0004, 0.00028, 0.0002]
    assert [policy.allows(seconds) for seconds in expected] == [False, True, True, False, False, True]

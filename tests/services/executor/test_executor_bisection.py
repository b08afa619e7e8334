"""Bad rows are found, good rows kept, and a model that fails on everything is not run for ever."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.executor.backends.backend import Tensors
from services.executor.execution.model import MAX_FURTHER_RUNS, run_with_bisection
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


@given(st.integers(1, 100), st.sets(st.integers(0, 99)))
def test_only_good_rows_run_and_all_of_them_if_few_are_bad(rows: int, bad: set[int]) -> None:
    model = Picky(bad)
    outcome = run_with_bisection(model, {"x": np.arange(rows)}, rows)
    really_bad = {row for row in bad if row < rows}

    assert model.runs <= 1 + MAX_FURTHER_RUNS
    assert (outcome.error is None) == (not really_bad)
    if outcome.ran is None:
        assert outcome.outputs["y"].tolist() == [2 * row for row in range(rows)]
        return
    ran = np.flatnonzero(outcome.ran).tolist()
    assert not really_bad & set(ran)
    assert ran == [] or outcome.outputs["y"].tolist() == [2 * row for row in ran]
    if len(really_bad) == 1:
        assert set(ran) == set(range(rows)) - really_bad


def test_nothing_more_is_tried_when_it_is_over() -> None:
    model = Picky({0})
    outcome = run_with_bisection(model, {"x": np.arange(8)}, 8, over=lambda: model.runs >= 3)
    assert model.runs == 3
    assert outcome.error is not None


def test_the_inline_policy_has_hysteresis() -> None:
    policy = InlinePolicy(0.0003)

    expected = [0.0, 0.0001, 0.00035, 0.0004, 0.00028, 0.0002]
    assert [policy.allows(seconds) for seconds in expected] == [False, True, True, False, False, True]

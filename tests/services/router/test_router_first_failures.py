"""Keys count once, in the arm where they failed first; requests count once where each is drawn anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ticks import ArmName, AssignedFigures, Tick
from headrace.ticks.messages import read, write
from services.router.ticks import first_failures
from services.router.ticks.counters import Counted, Counters
from services.router.ticks.first_failures import FirstFailures
from tests.services.router.tick_rows import OURS, answer, part

batches = st.lists(
    st.tuples(
        st.sampled_from(["live", "candidate"]),
        st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=6),
    ),
    max_size=12,
)


@given(batches)
def test_each_key_counts_once_in_whatever_arm(rows: list[tuple[str, list[tuple[int, bool]]]]) -> None:
    counting = FirstFailures()
    met: set[int] = set()
    failed: set[int] = set()
    for _, batch in rows:
        keys, bad = [key for key, _ in batch], [key for key, fails in batch if fails]
        expected = AssignedFigures(
            0, len(set(keys) - met), sum(key not in failed for key in keys), len(set(bad) - failed)
        )
        assert counting.count("p", "salt", keys, bad) == expected
        met |= set(keys)
        failed |= set(bad)


def test_salts_are_apart_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_failures, "MAX_SALTS", 2)
    counting = FirstFailures()
    for salt in "abca":
        assert counting.count("p", salt, [1], [1]) == AssignedFigures(0, 1, 1, 1)
    assert counting.count("p", "c", [1], [1]) == AssignedFigures()


def test_keys_past_the_limit_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_failures, "MAX_KEYS", 3)
    counting = FirstFailures()
    assert counting.count("p", "s", [1, 2], []) == AssignedFigures(0, 2, 2, 0)
    assert counting.count("p", "s", [1, 3, 4, 4], [4]) == AssignedFigures(0, 0, 1, 0)
    assert counting.count("p", "s", [7], [7]) == AssignedFigures()


def figures(counters: Counters) -> dict[str, AssignedFigures]:
    message = write(counters.tick())
    tick: Tick = read(type(message).FromString(message.SerializeToString()))
    return {name.arm: figures.assigned for name, figures in tick.arms.items()}


def test_a_client_that_always_fails_counts_once_wherever_a_growing_weight_moves_it() -> None:
    counters = Counters()
    failing = answer([0.1, 0.2], {0: OURS, 1: OURS})
    keyed = Counted(8, "s", lambda batch: np.full(len(batch), 7, np.uint64))
    counters.answered(keyed, part(failing, "live"), failing, 0.1)
    counters.answered(keyed, part(failing, "live"), failing, 0.1)
    counters.answered(keyed, part(failing, "candidate"), failing, 0.1)
    assert figures(counters) == {"live": AssignedFigures(0, 1, 2, 1), "candidate": AssignedFigures()}


def test_rows_without_an_answer_are_bad_keys() -> None:
    counters = Counters()
    keyed = Counted(8, "s", lambda batch: np.arange(len(batch), dtype=np.uint64))
    counters.failed(keyed, part(answer([0.1, 0.2]), "live"), 0.1)
    assert figures(counters) == {"live": AssignedFigures(0, 2, 2, 2)}


def test_requests_count_once_and_rows_that_a_rule_chose_do_not() -> None:
    counters = Counters()
    divided = Counted(8, divides=True)
    one, other = answer([0.1, 0.2, 0.3], request="r1"), answer([0.1], request="r2")
    counters.answered(divided, part(one), one, 0.1)
    counters.answered(divided, part(other), other, 0.1)
    counters.failed(divided, part(other), 0.1)
    ruled = part(other)
    counters.answered(
        divided, type(ruled)("live", ruled.pipeline, other, other, None, by_weight=False), other, 0.1
    )
    assert figures(counters) == {"live": AssignedFigures(3)}
    assert counters.tick().arms[ArmName("flights", 8, "live")].rows == 6


def test_without_shares_nothing_is_counted() -> None:
    counters = Counters()
    batch = answer([0.1])
    counters.answered(Counted(8), part(batch), batch, 0.1)
    assert figures(counters) == {"live": AssignedFigures()}

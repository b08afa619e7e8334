"""Keys count once, in the arm where they failed first; requests count once where each is drawn anew."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.releases import Arm, Assignment, Release, Rollout
from headrace.ticks import LATENCY_BUCKETS, ArmName, AssignedFigures, Tick, latency_bucket
from headrace.ticks.messages import read, write
from services.router.inference import _part
from services.router.pipelines import counted_as
from services.router.routes.route import Choice, Share
from services.router.ticks import first_failures
from services.router.ticks.counters import Counted, Counters
from services.router.ticks.first_failures import FirstFailures
from tests.services.router.tick_rows import CALLERS, OURS, answer, part

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
        expected = (
            len(set(keys) - met),
            sum(key not in failed for key in keys),
            len(set(bad) - failed),
        )
        assert counting.count("p", "salt", keys, bad) == expected
        met |= set(keys)
        failed |= set(bad)


def test_salts_are_apart_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_failures, "MAX_SALTS", 2)
    counting = FirstFailures()
    for salt in "abca":
        assert counting.count("p", salt, [1], [1]) == (1, 1, 1)
    assert counting.count("p", "c", [1], [1]) == (0, 0, 0)


def test_keys_past_the_limit_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_failures, "MAX_KEYS", 3)
    counting = FirstFailures()
    assert counting.count("p", "s", [1, 2], []) == (2, 2, 0)
    assert counting.count("p", "s", [1, 3, 4, 4], [4]) == (0, 1, 0)
    assert counting.count("p", "s", [7], [7]) == (0, 0, 0)


def figures(counters: Counters) -> dict[str, AssignedFigures]:
    """As they arrive at the other end."""
    message = write(counters.tick())
    tick: Tick = read(type(message).FromString(message.SerializeToString()))
    return {name.arm: figures.assigned for name, figures in tick.arms.items()}


def answers(*seconds: float) -> tuple[int, ...]:
    counts = [0] * LATENCY_BUCKETS
    for s in seconds:
        counts[latency_bucket(s)] += 1
    return tuple(counts)


def keyed(*keys: int) -> Counted:
    return Counted(8, "s", lambda batch: np.array(keys, np.uint64), divides=True)


def test_a_client_that_always_fails_counts_once_wherever_a_growing_weight_moves_it() -> None:
    counters = Counters()
    failing = answer([0.1, 0.2], {0: OURS, 1: OURS})
    for arm in ("live", "live", "candidate"):
        counters.answered(keyed(7, 7), part(failing, arm), failing, 0.1)
    assert figures(counters) == {
        "live": AssignedFigures(0, 0, 1, 2, 1, answers(0.1, 0.1)),
        "candidate": AssignedFigures(answers=answers(0.1)),
    }


def test_rows_without_an_answer_are_bad_keys() -> None:
    counters = Counters()
    counters.failed(keyed(1, 2), part(answer([0.1, 0.2]), "live"), 0.1)
    assert figures(counters) == {"live": AssignedFigures(0, 0, 2, 2, 2, answers(0.1))}


def test_requests_count_once_and_are_bad_if_a_row_is() -> None:
    counters = Counters()
    divided = Counted(8, divides=True)
    good, bad = (
        answer([0.1, 0.2, 0.3], request="r1"),
        answer([0.1, 0.1, 0.1], {0: OURS, 1: OURS, 2: CALLERS}, "r2"),
    )
    counters.answered(divided, part(good), good, 0.1)
    counters.answered(divided, part(bad), bad, 2.0)
    counters.failed(divided, part(good), 0.1)
    assert figures(counters) == {"live": AssignedFigures(3, 2, answers=answers(0.1, 2.0, 0.1))}


def test_rows_that_a_rule_chose_are_not_compared() -> None:
    counters = Counters()
    batch = answer([0.1, 0.2, 0.3], {0: OURS, 2: OURS})
    some, none = np.array([False, True, True]), np.zeros(3, bool)
    for drawn in (some, none):
        counters.answered(keyed(5, 6, 7), replace(part(batch), drawn=drawn), batch, 0.1)
    assert figures(counters) == {"live": AssignedFigures(0, 0, 2, 2, 1, answers(0.1))}
    assert counters.tick().arms[ArmName("flights", 8, "live")].rows == 6


def test_without_shares_nothing_is_divided() -> None:
    counters = Counters()
    batch = answer([0.1])
    counters.answered(Counted(8), part(batch), batch, 0.1)
    assert figures(counters) == {"live": AssignedFigures()}


def test_rows_that_a_rule_chose_are_told_from_those_that_were_drawn() -> None:
    batch = answer([0.1, 0.2, 0.3, 0.4])
    route = SimpleNamespace(name="live", plan=SimpleNamespace(pipeline=part(batch).pipeline))
    rows = np.array([0, 2, 3])

    def drawn(
        choices: tuple[Choice, ...], chosen: list[int] | None, rows: np.ndarray | None
    ) -> list[bool] | None:
        index = None if chosen is None else np.array(chosen, np.uint16)
        found = _part(Share(route, rows, choices, index), batch, rows).drawn  # type: ignore[arg-type]  # as a Route
        return None if found is None else found.tolist()

    assert drawn((Choice(), Choice(sticky=True)), [0, 1, 0], rows) is None
    assert drawn((Choice("vip"), Choice(sticky=True)), [0, 1, 0], rows) == [False, True, False]
    assert drawn((Choice("vip"),), None, rows) == [False] * 3
    assert drawn((Choice("vip"),), None, None) == [False] * 4


def test_units_are_counted_where_somebody_compares_arms() -> None:
    arms = {name: Arm(version=1, revision=digit * 64) for name, digit in (("live", "a"), ("candidate", "b"))}
    weights = {"live": 0.9, "candidate": 0.1}
    release = Release(pipeline="p", number=8, arms=arms, assign=Assignment(weights=weights))
    assert not counted_as(release).divides
    judged = release.model_copy(update={"rollout": Rollout(arm="candidate")})
    assert counted_as(judged).divides
    assert counted_as(judged).keys is None

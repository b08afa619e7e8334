"""Turns of tenants whose rows are explained: fair by time, nothing lost, bounded; and how many rows a turn runs at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Timing
from headrace.hop.errors import Code, Fault
from services.router.explanations.pieces import PieceSize
from services.router.explanations.turns import Entry, Turns

MAX_ROWS = 16
TENANTS = st.sampled_from("abcd")
# A call comes: its tenant, rows and pieces; a turn ends after some seconds; the caller of the n-th call leaves.
ACTIONS = st.one_of(
    st.tuples(st.just("call"), TENANTS, st.integers(1, 8), st.integers(1, 5)),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("depart"), st.integers(0, 20)),
)


@dataclass
class Line:
    """Drives turns as the explainer does. `turns_of`: the tenants of all turns; `since`: turns when a tenant's first call stood
    in line, until it got its turn; `pieces`: left of each call."""

    seconds: float = 0.0
    turns_of: list[str] = field(default_factory=list)
    since: dict[str, int] = field(default_factory=dict)
    pieces: dict[Entry, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turns = Turns(MAX_ROWS, lambda: self.seconds)

    def call(self, tenant: str, rows: int, pieces: int) -> None:
        own = sum(entry.rows for entry in self.pieces if entry.tenant == tenant)
        room = MAX_ROWS - sum(entry.rows for entry in self.pieces)
        if own + rows > room:
            says = rf"\b{MAX_ROWS - room} rows wait.*\b{own} of them"
            with pytest.raises(Fault, match=says) as caught:
                self.turns.enter(tenant, rows)
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
            assert caught.value.metadata["limiter"] == "explanations"
            assert caught.value.retry_after_s
            return
        entry = self.turns.enter(tenant, rows)
        if not own and tenant not in self.turns_of:
            self.since[tenant] = len(self.turns_of)
        self.pieces[entry] = pieces
        self.turns.want(entry)
        self.grant()

    def end(self, seconds: float) -> None:
        entry = self.turns.running
        if entry is None:
            return
        self.seconds += seconds
        self.pieces[entry] -= 1
        if self.pieces[entry]:
            self.turns.end(entry)
            self.turns.want(entry)
            self.grant()
        else:
            self.leave(entry)

    def depart(self, number: int) -> None:
        if number < len(self.pieces):
            self.leave(list(self.pieces)[number])

    def leave(self, entry: Entry) -> None:
        del self.pieces[entry]
        self.turns.leave(entry)
        if not any(other.tenant == entry.tenant for other in self.pieces):
            self.since.pop(entry.tenant, None)
        self.grant()

    def grant(self) -> None:
        entry = self.turns.grant()
        if entry is not None:
            # Of a tenant's calls the oldest.
            assert entry is next(e for e in self.pieces if e.tenant == entry.tenant)
            self.turns_of.append(entry.tenant)
            if (since := self.since.pop(entry.tenant, None)) is not None:
                assert max(Counter(self.turns_of[since:]).values()) == 1
        assert (self.turns.running is None) == (not self.pieces)
        assert self.turns.running is None or self.turns.running in self.pieces
        assert self.turns.rows == sum(e.rows for e in self.pieces) <= MAX_ROWS


@given(st.lists(ACTIONS, max_size=60))
def test_who_comes_waits_for_one_turn_of_each_other_and_nothing_is_lost(
    actions: Sequence[tuple[str, ...]],
) -> None:
    line = Line()
    for action, *values in actions:
        getattr(line, action)(*values)
    for _ in range(sum(line.pieces.values())):
        line.end(1)
    assert not line.pieces


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=40))
def test_tenants_with_always_more_get_equal_time(costs: Sequence[tuple[int, int, int]]) -> None:
    line, had = Line(), Counter[str]()
    for tenant in "abc":
        line.call(tenant, 1, 1000)
    for turn in range(len(costs)):
        tenant = line.turns_of[-1]
        had[tenant] += costs[turn]["abc".index(tenant)]
        line.end(costs[turn]["abc".index(tenant)])
        assert max(had[t] for t in "abc") - min(had[t] for t in "abc") <= 9


def test_an_expensive_turn_is_remembered_while_others_work() -> None:
    line = Line()
    line.call("pictures", 1, 1)
    line.call("numbers", 1, 100)
    line.end(10)
    line.call("pictures", 1, 1)
    for _ in range(12):
        line.end(1)
    assert line.turns_of[:12] == ["pictures", *["numbers"] * 10, "pictures"]


def test_one_that_comes_late_takes_turns_and_catches_up_nothing() -> None:
    line = Line()
    line.call("early", 1, 100)
    for _ in range(10):
        line.end(1)
    line.call("late", 1, 100)
    for _ in range(6):
        line.end(1)
    assert line.turns_of[11:] == ["late", "early"] * 3


def test_a_tenant_keeps_its_place_when_its_first_caller_leaves() -> None:
    line = Line()
    line.call("a", 1, 1)
    for tenant in "bbc":
        line.call(tenant, 1, 1)
    line.depart(1)
    line.end(1)
    assert line.turns_of == ["a", "b"]


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

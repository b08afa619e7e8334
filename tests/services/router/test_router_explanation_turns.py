"""Turns of tenants whose rows are explained: nobody waits long, nothing lost, bounded; and how many rows a turn runs at once."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Timing
from headrace.hop.errors import Code, Fault
from services.router.explanations.pieces import PieceSize
from services.router.explanations.turns import Entry, FairSlot

MAX_ROWS = 16
TENANTS = st.sampled_from("abcd")
# A call comes: its tenant, rows and pieces; a turn ends; the caller of the n-th call leaves.
ACTIONS = st.one_of(
    st.tuples(st.just("call"), TENANTS, st.integers(1, 8), st.integers(1, 5)),
    st.tuples(st.just("end")),
    st.tuples(st.just("depart"), st.integers(0, 20)),
)


class Line:
    """Drives turns as the explainer does. `turns_of`: the tenants of all turns; `since`: turns when a tenant's first call stood
    in line, until it got its turn; `pieces`: left of each call."""

    def __init__(self) -> None:
        self.slot = FairSlot(MAX_ROWS, lambda: 0.0)
        self.turns_of: list[str] = []
        self.since: dict[str, int] = {}
        self.pieces: dict[Entry, int] = {}
        self.inside: dict[Entry, AbstractContextManager[Entry]] = {}

    def call(self, tenant: str, rows: int, pieces: int) -> None:
        own = sum(entry.rows for entry in self.pieces if entry.tenant == tenant)
        room = MAX_ROWS - sum(entry.rows for entry in self.pieces)
        entered = self.slot.entered(tenant, rows)
        if own + rows > room:
            says = rf"\b{MAX_ROWS - room} rows wait.*\b{own} of them"
            with pytest.raises(Fault, match=says) as caught:
                entered.__enter__()
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
            assert caught.value.metadata["limiter"] == "explanations"
            assert caught.value.retry_after_s
            return
        entry = entered.__enter__()
        if not own:
            self.since[tenant] = len(self.turns_of)
        self.pieces[entry], self.inside[entry] = pieces, entered
        self.changes(lambda: self.slot.want(entry))

    def end(self) -> None:
        entry = self.slot.running
        if entry is None:
            return
        self.pieces[entry] -= 1
        if self.pieces[entry]:
            self.changes(lambda: self.slot.release(entry))
            self.changes(lambda: self.slot.want(entry))
        else:
            self.leave(entry)

    def depart(self, number: int) -> None:
        if number < len(self.pieces):
            self.leave(list(self.pieces)[number])

    def leave(self, entry: Entry) -> None:
        del self.pieces[entry]
        if not any(other.tenant == entry.tenant for other in self.pieces):
            self.since.pop(entry.tenant, None)
        self.changes(lambda: self.inside.pop(entry).__exit__(None, None, None))

    def changes(self, change: Callable[[], object]) -> None:
        before = self.slot.running
        change()
        entry = self.slot.running
        if entry is not None and entry is not before:
            # Of a tenant's calls the oldest.
            assert entry is next(e for e in self.pieces if e.tenant == entry.tenant)
            self.turns_of.append(entry.tenant)
            if (since := self.since.pop(entry.tenant, None)) is not None:
                assert max(Counter(self.turns_of[since:]).values()) == 1
        assert entry is None or entry in self.pieces
        assert self.slot.rows == sum(e.rows for e in self.pieces) <= MAX_ROWS


@given(st.lists(ACTIONS, max_size=60))
def test_who_comes_waits_for_one_turn_of_each_other_and_nothing_is_lost(
    actions: Sequence[tuple[str, ...]],
) -> None:
    line = Line()
    for action, *values in actions:
        getattr(line, action)(*values)
        assert (line.slot.running is None) == (not line.pieces)
    for _ in range(sum(line.pieces.values())):
        line.end()
    assert not line.pieces


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

"""The arithmetic of leases: nothing is given that another door holds, and what is nobody's is somebody's soon."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingress.sharing.division import LEASE_MS, Book, Limits, Use

LIMIT, DOORS = 12, 3
NONE = (0.0, 0.0)
Step = tuple[int, int, float, int]
"""Door; what it wants; the part of its slots that is in flight when it asks; milliseconds since the step before."""


class Slots:
    """Doors with one book, and what each of them holds, by their own count."""

    def __init__(self) -> None:
        self.now_ms, self.book = 1_000_000, Book()
        # Slots, and when the lease of them ends.
        self.held = [(0, 0)] * DOORS

    def ask(
        self, door: int, wanted: int, busy: float, passed_ms: int, knows: int = DOORS
    ) -> tuple[bool, int]:
        """One exchange: whether it renewed a lease, and the slots that it gave. `knows`: of how many doors this one has heard."""
        self.now_ms += passed_ms
        slots, ends = self.held[door]
        leased, in_flight = ends > self.now_ms, round(busy * slots)
        use = Use(NONE, NONE, in_flight, max(min(wanted, LIMIT), in_flight))
        limits = Limits(NONE, NONE, LIMIT, LIMIT // max(knows, 2) // 2)
        grant, _ = self.book.exchange(f"door{door}", self.now_ms, limits, use)
        self.book = Book.of_bytes(self.book.to_bytes())
        self.held[door] = (max(grant.slots, in_flight), self.now_ms + LEASE_MS)
        return leased, grant.slots

    def elsewhere(self, door: int) -> int:
        """Slots of leases of the other doors that are not over."""
        return sum(n for i, (n, ends) in enumerate(self.held) if i != door and ends > self.now_ms)


_STEPS = st.tuples(
    st.integers(0, DOORS - 1),
    st.integers(0, 2 * LIMIT),
    st.sampled_from((0.0, 0.5, 1.0)),
    st.integers(0, 400),
)


@given(steps=st.lists(_STEPS, min_size=2, max_size=40))
# One door has all; another joins, and wants as much.
@example(steps=[(0, LIMIT, 1.0, 0), (1, LIMIT, 1.0, 100), (1, LIMIT, 1.0, 100)])
def test_no_slot_is_given_that_another_door_holds(steps: list[Step]) -> None:
    slots = Slots()
    for step in steps:
        leased, given_ = slots.ask(*step)
        elsewhere = slots.elsewhere(step[0])
        # A door's first lease holds what it may have begun without one; each later one, what is nobody's.
        most = max(LIMIT - elsewhere, 0 if leased else LIMIT // DOORS // 2)
        assert given_ <= most, f"{given_} slots while others hold {elsewhere} of {LIMIT}"


# Of one door: it is the first that comes, or comes back to a Redis that has lost its data.
@pytest.mark.parametrize("knows", [1, DOORS])
def test_a_door_that_begins_to_get_calls_is_not_without_slots_until_the_others_ask(knows: int) -> None:
    slots = Slots()
    # The first door has one call and then none, so it does not ask again; all this is within its lease.
    slots.ask(0, 1, 1.0, 0, knows)
    for passed_ms in (50, *[100] * 10):
        assert slots.ask(1, 1, 1.0, passed_ms)[1] >= 1


@given(wants=st.lists(st.integers(0, 2 * LIMIT), min_size=DOORS, max_size=DOORS))
def test_doors_that_want_all_get_all(wants: list[int]) -> None:
    """What is nobody's is somebody's a few exchanges later: 'never twice' is not had by giving nothing."""
    slots = Slots()
    for _ in range(5):
        for door, wanted in enumerate(wants):
            slots.ask(door, wanted, 0.0, 33)
    # An eighth of the limit stays where it was.
    assert LIMIT - LIMIT // 8 <= sum(n for n, _ in slots.held) <= LIMIT


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 100),
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.floats(0, 5000), st.floats(0, 1), st.integers(0, 500)), max_size=60
    ),
)
def test_tokens_are_lent_to_one_door_at_a_time(
    rate: float, burst: float, steps: list[tuple[int, float, float, int]]
) -> None:
    """Doors take a part of what they were lent, while it is theirs, and tell it: never more than the burst and the rate."""
    book, now, took = Book(), 0, 0.0
    lent: dict[int, tuple[float, int]] = {}
    for door, demand, part, passed_ms in steps:
        now += passed_ms
        tokens, until = lent.get(door, (0.0, 0))
        taken = max(tokens, 0.0) * part if now <= until else 0.0
        took += taken
        limits = Limits((rate, 0.0), (burst, 1.0), 0, 0)
        use = Use((taken, 0.0), (demand, 0.0), 0, 0)
        grant, _ = book.exchange(f"door{door}", now, limits, use)
        book = Book.of_bytes(book.to_bytes())
        lent[door] = grant.tokens[0], now + 250
        assert 0 <= grant.shares[0] <= 1
        outstanding = sum(max(tokens, 0.0) for tokens, until in lent.values() if until > now)
        # A tenth of a second that a full bucket goes on to fill.
        assert took + outstanding <= burst + rate * (now / 1000 + 0.1) + 1e-6


def test_what_a_door_may_still_take_before_it_hears_of_its_grant_is_nobody_elses() -> None:
    book, limits = Book(), Limits((0.001, 0.0), (10.0, 1.0), 0, 0)
    busy, quiet = Use(NONE, (1e6, 0.0), 0, 0), Use(NONE, NONE, 0, 0)
    assert book.exchange("one", 0, limits, busy)[0].tokens[0] == 10
    assert book.exchange("two", 0, limits, busy)[0].tokens[0] == 0
    assert book.exchange("one", 1, limits, quiet)[0].tokens[0] < 0.1
    assert book.exchange("two", 1, limits, busy)[0].tokens[0] < 0.1
    # It has heard, and told that it took none of them.
    book.exchange("one", 101, limits, quiet)
    assert book.exchange("two", 101, limits, busy)[0].tokens[0] > 9


@pytest.mark.parametrize(
    "rubbish",
    [b"rubbish", b"[]", b'{"doors": 1, "levels": []}', b'{"doors": {"x": [1]}, "levels": [null, null]}', b"\xff",
     b'{"doors": {}, "levels": [[1], null]}', b'{"doors": {}, "levels": [null]}'],
)  # fmt: skip
def test_what_is_no_book_is_a_value_error(rubbish: bytes) -> None:
    with pytest.raises(ValueError):
        Book.of_bytes(rubbish)

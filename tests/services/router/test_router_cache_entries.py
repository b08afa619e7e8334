"""The table of kept answers, compared with a plain dictionary that never forgets."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from services.router.cache.entries import ENTRY_BYTES, Entries

TTL, KEPT, MOST = 10.0, 30.0, 5 * (ENTRY_BYTES + 20)
KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g"])


class Table(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.entries: Entries[int] = Entries(TTL, KEPT, MOST)
        # Key → value, when it was stored, size.
        self.put_last: dict[bytes, tuple[int, float, int]] = {}
        self.used: list[bytes] = []
        self.now, self.count = 0.0, 0

    @rule(key=KEYS, size=st.integers(0, 60), age=st.sampled_from([0.0, 0.0, 5.0, 20.0]))
    def put(self, key: bytes, size: int, age: float) -> None:
        self.count += 1
        self.entries.put(key, self.count, size, self.now - age)
        self.put_last[key] = self.count, self.now - age, size
        self._use(key)

    @rule(key=KEYS)
    def fresh(self, key: bytes) -> None:
        self._compare(key, self.entries.fresh(key, self.now), TTL)

    @rule(key=KEYS)
    def stale(self, key: bytes) -> None:
        self._compare(key, self.entries.stale(key, self.now), KEPT)

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def _use(self, key: bytes) -> None:
        self.used = [k for k in self.used if k != key] + [key]

    def _compare(self, key: bytes, found: tuple[int, float] | None, limit: float) -> None:
        if found is not None:
            value, stored, _ = self.put_last[key]
            assert found == (value, self.now - stored)
            assert found[1] <= limit
            self._use(key)
        elif key in self.put_last and self.now - self.put_last[key][1] <= limit:
            # It went for lack of space: with what was used later, there was no room for it.
            later = [self.put_last[k][2] + 1 + ENTRY_BYTES for k in self.used[self.used.index(key) :]]
            assert sum(later) + 7 * 60 >= MOST - ENTRY_BYTES

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.entries.bytes <= MOST
        assert (self.entries.bytes == 0) == (len(self.entries) == 0)


def test_the_table_holds_what_was_put_last_while_there_is_room() -> None:
    run_state_machine_as_test(
        Table, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )


def test_the_least_recently_used_go_first() -> None:
    entries: Entries[str] = Entries(10, 10, 2 * (ENTRY_BYTES + 1))
    entries.put(b"a", "a", 0, 0)
    entries.put(b"b", "b", 0, 0)
    assert entries.fresh(b"a", 1) == ("a", 1)
    entries.put(b"c", "c", 0, 1)
    assert (entries.fresh(b"b", 1), entries.fresh(b"a", 1)) == (None, ("a", 1))
    assert entries.evicted.space == 1


def test_what_is_larger_than_the_limit_is_not_kept_and_takes_nobodys_place() -> None:
    entries: Entries[str] = Entries(10, 10, 1000)
    entries.put(b"a", "a", 0, 0)
    entries.put(b"b", "b", 1000, 0)
    assert (entries.fresh(b"a", 0), entries.fresh(b"b", 0)) == (("a", 0), None)


def test_a_lower_limit_applies_at_once() -> None:
    entries: Entries[str] = Entries(10, 10, 10_000)
    for key in (b"a", b"b", b"c"):
        entries.put(key, "", 0, 0)
    entries.limit(1.0, 1.0, ENTRY_BYTES + 1)
    assert (len(entries), entries.fresh(b"c", 2.0)) == (1, None)
    assert entries.evicted.age == 1
    assert entries.bytes == 0

"""Natural batching as a state machine: nothing lost, nothing twice, bounds kept, the important kept longest."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.hop.client_settings import Coalesce
from headrace.hop.due import Due
from headrace.hop.gathering import Gathering, Waiting

RULES = Coalesce(window=2, max_rows=8, max_bytes=100, max_waiting_rows=20)


def item(name, rows=1, size=1, deadline=1e9, priority=1):
    return Waiting(name, rows, size, deadline, priority, None)


def names(entries):
    return [e.item for e in entries]


def test_idle_leaves_at_once_busy_gathers():
    g = Gathering(RULES)
    g.offer("k", item("a"))
    assert names(g.cut("k", 0)[0]) == ["a"]
    g.offer("k", item("b"))
    assert names(g.cut("k", 0)[0]) == ["b"]
    for name in "cde":
        assert g.offer("k", item(name)) == []
        assert g.cut("k", 0) is None  # both calls of the window are out
    g.finished("k")
    assert names(g.cut("k", 0)[0]) == ["c", "d", "e"]


def test_keys_do_not_share_calls_or_windows():
    g = Gathering(RULES)
    for key in ("k", "l"):
        for name in "ab":
            g.offer(key, item(key + name))
    assert names(g.cut("k", 0)[0]) == ["ka", "kb"]
    assert names(g.cut("l", 0)[0]) == ["la", "lb"]


def test_cut_by_rows_and_by_bytes():
    g = Gathering(RULES)
    for name in "abc":
        g.offer("k", item(name, rows=4))
    assert names(g.cut("k", 0)[0]) == ["a", "b"]
    assert names(g.cut("k", 0)[0]) == ["c"]
    g = Gathering(RULES)
    for name in "abc":
        g.offer("k", item(name, size=60))
    assert names(g.cut("k", 0)[0]) == ["a"]


def test_an_item_larger_than_a_call_leaves_alone():
    g = Gathering(RULES)
    assert g.offer("k", item("huge", rows=500, size=10_000)) == []
    assert g.full("k")
    assert names(g.cut("k", 0)[0]) == ["huge"]
    g.offer("k", item("a"))
    assert names(g.cut("k", 0)[0]) == ["a"]


def test_late_items_never_leave():
    g = Gathering(RULES)
    g.offer("k", item("late", deadline=5))
    g.offer("k", item("fine", deadline=50))
    batch, late = g.cut("k", 10)
    assert (names(batch), names(late)) == (["fine"], ["late"])
    g = Gathering(RULES)
    g.offer("k", item("late", deadline=5))
    assert [names(part) for part in g.cut("k", 10)] == [[], ["late"]]
    assert g.cut("k", 10) is None
    assert g._lanes == {}


def full():
    """Two calls out, 20 rows of priority 1 waiting."""
    g = Gathering(RULES)
    for _ in range(2):
        g.offer("k", item("out"))
        g.cut("k", 0)
    for n in range(20):
        assert g.offer("k", item(n)) == []
    return g


def test_when_full_an_equal_or_lesser_newcomer_is_refused():
    g = full()
    newcomer = item("new")
    assert g.offer("k", newcomer) == [newcomer]
    assert g.waiting_rows == 20


def test_when_full_a_more_important_newcomer_displaces_the_last_of_the_least():
    g = full()
    assert names(g.offer("k", item("vip", rows=2, priority=5))) == [19, 18]
    g.finished("k")
    assert names(g.cut("k", 0)[0]) == ["vip", 0, 1, 2, 3, 4, 5]


def test_shedding_reaches_other_keys():
    g = full()
    assert len(g.offer("other", item("idle key leaves anyway", priority=0))) == 0
    for _ in range(2):
        g.cut("other", 0)
        g.offer("other", item("x", priority=9))


def test_withdrawn_items_are_forgotten():
    g = full()
    entries = [item(("w", n), priority=7) for n in range(15)]
    for entry in entries:
        g.offer("k", entry)
    for entry in entries:
        assert g.withdraw(entry)
        assert not g.withdraw(entry)
    assert g.waiting_rows == 5
    g.finished("k")
    assert names(g.cut("k", 0)[0]) == [0, 1, 2, 3, 4]


def test_withdrawing_again_and_again_keeps_no_memory():
    g = full()
    for n in range(10_000):
        entry = item(n, priority=9)
        g.offer("k", entry)
        g.withdraw(entry)
    assert sum(len(q) for q in g._lanes["k"].queues.values()) < 300


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.serial = 0
        self.g = Gathering(RULES)
        self.waiting = {}
        self.calls = []

    @rule(
        key=st.sampled_from("abc"),
        rows=st.integers(1, 12),
        size=st.integers(0, 120),
        patience=st.floats(0.1, 10),
        priority=st.integers(0, 3),
    )
    def offer(self, key, rows, size, patience, priority):
        self.serial += 1
        entry = item(self.serial, rows, size, self.now + patience, priority)
        refused = self.g.offer(key, entry)
        if refused != [entry]:
            self.waiting[entry.item] = (key, entry)
            for other in refused:
                assert other.priority < entry.priority
                del self.waiting[other.item]
        else:
            # Refused itself only if those less important would not make room enough.
            lesser = sum(e.rows for _, e in self.waiting.values() if e.priority < priority)
            assert self.g.waiting_rows + rows - lesser > RULES.max_waiting_rows

    @rule(key=st.sampled_from("abc"))
    def cut(self, key):
        out = self.calls.count(key)
        lane = [e for k, e in self.waiting.values() if k == key]
        cut = self.g.cut(key, self.now)
        if out >= RULES.window or not lane:
            assert cut is None
            return
        batch, late = cut
        assert batch or late
        assert all(e.deadline > self.now for e in batch)
        assert all(e.deadline <= self.now for e in late)
        assert len(batch) <= 1 or sum(e.rows for e in batch) <= RULES.max_rows
        assert len(batch) <= 1 or sum(e.size for e in batch) <= RULES.max_bytes
        expected = sorted(batch, key=lambda e: (-e.priority, e.item))
        assert names(batch) == names(expected)
        for entry in batch + late:
            assert self.waiting.pop(entry.item)[0] == key
        if batch:
            self.calls.append(key)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def finish(self, data):
        key = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.g.finished(key)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data):
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.g.withdraw(self.waiting.pop(name)[1])

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def counts_agree(self):
        rows = sum(e.rows for _, e in self.waiting.values())
        assert self.g.waiting_rows == rows
        assert sum(self.g._rows_at.values()) == rows

    @invariant()
    def idle_lanes_are_forgotten(self):
        assert set(self.g._lanes) == {k for k, _ in self.waiting.values()} | set(self.calls)

    def teardown(self):
        for key in self.calls:
            self.g.finished(key)
        left = []
        for key in "abc":
            while (cut := self.g.cut(key, self.now)) is not None:
                left += cut[0] + cut[1]
                if cut[0]:
                    self.g.finished(key)
        assert sorted(names(left)) == sorted(self.waiting)
        assert self.g._lanes == {}


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)


class Answer:
    def __init__(self, name):
        self.name = name
        self.answered = False

    def done(self):
        return self.answered


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=600), st.floats(0, 100))
def test_due_gives_exactly_the_unanswered_whose_time_has_come(entries, now):
    due = Due()
    answers = [Answer(d) for d, _ in entries]
    for (deadline, answered), answer in zip(entries, answers, strict=True):
        due.add(deadline, answer)
        answer.answered = answered
    open_ones = [a for a in answers if not a.answered]
    taken = due.take(now)
    assert sorted(a.name for a in taken) == sorted(a.name for a in open_ones if a.name <= now)
    assert [a.name for a in taken] == sorted(a.name for a in taken)
    assert due.earliest() == min((a.name for a in open_ones if a.name > now), default=None)


def test_due_forgets_answered_entries_though_their_time_is_far():
    due = Due()
    for n in range(10_000):
        answer = Answer(n)
        due.add(1e9 + n, answer)
        answer.answered = True
    assert len(due) < 600

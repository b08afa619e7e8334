"""Natural batching as a state machine: nothing lost, nothing twice, bounds kept, the important kept longest."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.hop.batching.queue import BatchQueue, DeadlineHeap, QueuedItem
from headrace.hop.client.settings import CoalesceRules

Entry: TypeAlias = QueuedItem[Any, Any]
Queue: TypeAlias = BatchQueue[Any, Any]
RULES = CoalesceRules(window=2, max_rows=8, max_bytes=100, max_waiting_rows=20)


def item(
    name: object, rows: int = 1, size: int = 1, deadline: float = 1e9, priority: int = 1, tenant: str = ""
) -> Entry:
    return QueuedItem(name, tenant, rows, size, deadline, priority, None)


def names(entries: Sequence[Entry]) -> list[Any]:
    return [e.item for e in entries]


def left(g: Queue, key: str) -> list[Entry]:
    """The call that leaves at 0."""
    cut = g.cut(key, 0)
    assert cut is not None
    return cut[0]


def test_tenants_take_turns_by_their_rows() -> None:
    g = Queue(RULES)
    for n in range(3):
        g.offer("k", item(f"large {n}", rows=6, tenant="large"))
    g.offer("k", item("small", tenant="small"))
    assert names(left(g, "k")) == ["large 0", "small"]
    g.offer("k", item("small again", tenant="small"))
    assert names(left(g, "k")) == ["small again", "large 1"]


def test_one_that_comes_begins_where_the_others_are() -> None:
    """It is neither behind all that an older tenant has left, nor before it for as many rows as that had sent."""
    g = Queue(CoalesceRules(window=1, max_rows=1))
    for n in range(5):
        g.offer("k", item(f"old {n}", tenant="old"))
    sent = [*left(g, "k")]
    for n in range(3):
        g.offer("k", item(f"new {n}", tenant="new"))
    for _ in range(5):
        g.finished("k")
        sent += left(g, "k")
    assert names(sent) == ["old 0", "new 0", "old 1", "new 1", "old 2", "new 2"]
    for n in range(3, 13):  # "new" has paused
        g.offer("k", item(f"old {n}", tenant="old"))
        g.finished("k")
        left(g, "k")
    for n in range(3, 6):
        g.offer("k", item(f"new {n}", tenant="new"))
    sent = []
    for _ in range(3):
        g.finished("k")
        sent += left(g, "k")
    assert {e.tenant for e in sent} == {"old", "new"}


def test_the_tenant_with_most_rows_makes_room_for_another() -> None:
    g = Queue(RULES)
    for name in range(RULES.window):
        g.offer("k", item(f"out {name}"))
        g.cut("k", 0.0)
    g.offer("k", smaller := item("smaller", rows=3, tenant="smaller"))
    g.offer("k", larger := item("larger", rows=17, tenant="larger"))
    assert g.offer("k", item("small", tenant="small")) == [larger]
    for entry in list(g._flows[1, "small"].entries):
        g.withdraw(entry)
    g.withdraw(smaller)
    for n in range(4):
        assert g.offer("k", item(f"large {n}", rows=5, tenant="large")) == []
    own = item("one more", tenant="large")
    assert g.offer("k", own) == [own]
    assert names(g.offer("k", item("small", tenant="small"))) == ["large 3"]
    assert g.offer("k", item("as small", 4, tenant="small")) == []
    # A tenant gets what others have too much, not more.
    assert names(g.offer("k", item("half", 5, tenant="small"))) == ["large 2"]
    more = item("more than half", 5, tenant="small")
    assert g.offer("k", more) == [more]


def test_after_a_pause_all_are_equal() -> None:
    g = Queue(CoalesceRules(window=1, max_rows=1, max_waiting_rows=100))
    g.offer("k", item("large", rows=50, tenant="large"))
    left(g, "k")
    g.finished("k")
    sent: list[Entry] = []
    for n in range(3):
        g.offer("k", item(f"large {n}", tenant="large"))
        g.offer("k", item(f"small {n}", tenant="small"))
    for _ in range(4):
        sent += left(g, "k")
        g.finished("k")
    assert names(sent) == ["large 0", "small 0", "large 1", "small 1"]


def test_many_keys_and_tenants_keep_no_memory() -> None:
    g = Queue(RULES)
    g.offer("k", item("much", rows=8, tenant="much"))
    g.cut("k", 0)
    for n in range(2000):
        g.offer(n, item(n, tenant=str(n)))
        g.cut(n, 0)
        g.finished(n)
        g.offer("k", item(n, tenant=str(n)))
        g.cut("k", 0)
        g.finished("k")  # it is never idle
    remembered = g._lanes["k"].queues[1]._finish
    assert max(len(g._lanes), len(g._flows), len(remembered)) < 300
    assert "much" in remembered


LONE = CoalesceRules(window=1, max_rows=4, max_bytes=1000, max_waiting_rows=10_000)


def busy() -> Queue:
    """A queue with one call in flight, so that what comes waits."""
    queue = Queue(LONE)
    queue.offer("k", item("first"))
    assert queue.cut("k", 0) is not None
    return queue


def held(queue: Queue) -> int:
    """Items that the queue holds in memory, withdrawn ones too."""
    return sum(len(waiting.heap) for lane in queue._lanes.values() for waiting in lane.queues.values())


def test_many_withdrawn_items_are_swept_once_they_are_the_majority() -> None:
    queue = busy()
    items = [item(i) for i in range(200)]
    for each in items:
        queue.offer("k", each)
    for each in items[:100]:
        assert queue.withdraw(each)
    assert held(queue) == 200
    assert queue.withdraw(items[100])
    assert held(queue) == 99
    assert queue.waiting_rows == 99
    assert not queue.withdraw(items[100])
    # Counted anew: as many more must be withdrawn before the next sweep.
    for each in items[101:165]:
        queue.withdraw(each)
    assert held(queue) == 99
    queue.withdraw(items[165])
    assert held(queue) == 34
    queue.finished("k")
    cut = queue.cut("k", 0)
    assert cut is not None
    assert [each.item for each in cut[0]] == [166, 167, 168, 169]


def test_a_lane_is_full_when_its_next_call_is_and_may_leave() -> None:
    queue = Queue(LONE)
    assert not queue.full("k")
    queue.offer("k", item("a", rows=3))
    assert not queue.full("k")
    queue.offer("k", item("b"))
    assert queue.full("k")
    assert queue.cut("k", 0) is not None
    queue.offer("k", item("c", rows=4))
    assert not queue.full("k")  # a call is in flight, and the window is one
    queue.finished("k")
    assert queue.full("k")


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.serial = 0
        self.g = Queue(RULES)
        self.waiting: dict[Any, tuple[str, Entry]] = {}
        self.calls: list[str] = []

    @rule(
        key=st.sampled_from("abc"),
        rows=st.integers(1, 12),
        size=st.integers(0, 120),
        patience=st.floats(0.1, 10),
        priority=st.integers(0, 3),
        tenant=st.sampled_from("ABC"),
    )
    def offer(self, key: str, rows: int, size: int, patience: float, priority: int, tenant: str) -> None:
        self.serial += 1
        entry = item(self.serial, rows, size, self.now + patience, priority, tenant)
        share = rows + self.rows_of(priority, tenant)
        before: dict[Any, int] = {t: self.rows_of(priority, t) for t in "ABC"}
        refused = self.g.offer(key, entry)
        if refused != [entry]:
            self.waiting[entry.item] = (key, entry)
            for other in refused:
                assert other.priority < priority or (
                    other.priority == priority and before[other.tenant] > share
                )
                del self.waiting[other.item]
        else:
            # Refused itself only if those less important, and tenants with more rows, would not make room enough.
            lesser = sum(e.rows for _, e in self.waiting.values() if e.priority < priority)
            lesser += sum(max(0, count - share) for count in before.values())
            assert self.g.waiting_rows + rows - lesser > RULES.max_waiting_rows

    def rows_of(self, priority: int, tenant: str) -> int:
        mine = [e for _, e in self.waiting.values() if (e.priority, e.tenant) == (priority, tenant)]
        return sum(e.rows for e in mine)

    @rule(key=st.sampled_from("abc"))
    def cut(self, key: str) -> None:
        out = self.calls.count(key)
        lane = [e for k, e in self.waiting.values() if k == key]
        cut = self.g.cut(key, self.now)
        if out >= RULES.window or not lane:
            assert cut is None
            return
        assert cut is not None
        batch, late = cut
        assert batch or late
        assert all(e.deadline > self.now for e in batch)
        assert all(e.deadline <= self.now for e in late)
        assert len(batch) <= 1 or sum(e.rows for e in batch) <= RULES.max_rows
        assert len(batch) <= 1 or sum(e.size for e in batch) <= RULES.max_bytes
        assert [e.priority for e in batch] == sorted([e.priority for e in batch], reverse=True)
        for tenant in "ABC":
            own = [e for e in batch if e.tenant == tenant]
            assert names(own) == names(sorted(own, key=lambda e: (-e.priority, e.item)))
        for entry in batch + late:
            assert self.waiting.pop(entry.item)[0] == key
        if batch:
            self.calls.append(key)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.g.finished(key)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.g.withdraw(self.waiting.pop(name)[1])

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts_agree(self) -> None:
        rows = sum(e.rows for _, e in self.waiting.values())
        assert self.g.waiting_rows == rows
        assert sum(flow.rows for flow in self.g._flows.values()) == rows

    @invariant()
    def what_was_withdrawn_stays_in_no_idle_lane(self) -> None:
        for lane in self.g._lanes.values():
            assert lane.rows or not any(queue.heap for queue in lane.queues.values())

    def teardown(self) -> None:
        for key in self.calls:
            self.g.finished(key)
        left = []
        for key in "abc":
            while (cut := self.g.cut(key, self.now)) is not None:
                left += cut[0] + cut[1]
                if cut[0]:
                    self.g.finished(key)
        assert sorted(names(left)) == sorted(self.waiting)
        assert self.g.waiting_rows == 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)


class Answer:
    def __init__(self, name: float) -> None:
        self.name = name
        self.answered = False

    def done(self) -> bool:
        return self.answered


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=600), st.floats(0, 100))
def test_due_gives_exactly_the_unanswered_whose_time_has_come(
    entries: list[tuple[float, bool]], now: float
) -> None:
    due = DeadlineHeap[Answer]()
    answers = [Answer(d) for d, _ in entries]
    for (deadline, answered), answer in zip(entries, answers, strict=True):
        due.add(deadline, answer)
        answer.answered = answered
    open_ones = [a for a in answers if not a.answered]
    taken = due.take(now)
    assert sorted(a.name for a in taken) == sorted(a.name for a in open_ones if a.name <= now)
    assert [a.name for a in taken] == sorted(a.name for a in taken)
    assert due.earliest() == min((a.name for a in open_ones if a.name > now), default=None)


def test_due_forgets_answered_entries_though_their_time_is_far() -> None:
    due = DeadlineHeap[Answer]()
    for n in range(10_000):
        answer = Answer(n)
        due.add(1e9 + n, answer)
        answer.answered = True
    assert len(due) < 600

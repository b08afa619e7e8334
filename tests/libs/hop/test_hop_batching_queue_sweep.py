"""What was withdrawn from the queue of natural batching does not stay in it for ever, and nobody else notices."""

from typing import Any

from headrace.hop.batching.queue import BatchQueue, QueuedItem
from headrace.hop.client.settings import CoalesceRules

RULES = CoalesceRules(window=1, max_rows=4, max_bytes=1000, max_waiting_rows=10_000)


def item(name: object, rows: int = 1, priority: int = 1) -> QueuedItem[Any, Any]:
    return QueuedItem(name, "", rows, 1, 1e9, priority, None)


def busy() -> BatchQueue[Any, Any]:
    """A queue with one call in flight, so that what comes waits."""
    queue: BatchQueue[Any, Any] = BatchQueue(RULES)
    queue.offer("k", item("first"))
    assert queue.cut("k", 0) is not None
    return queue


def held(queue: BatchQueue[Any, Any]) -> int:
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
    queue: BatchQueue[Any, Any] = BatchQueue(RULES)
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


def test_shedding_takes_no_more_than_it_must() -> None:
    queue: BatchQueue[Any, Any] = BatchQueue(CoalesceRules(window=1, max_rows=4, max_waiting_rows=4))
    queue.offer("k", item("in flight"))
    assert queue.cut("k", 0) is not None
    for name in ("a", "b"):
        queue.offer("k", item(name, priority=0))
        queue.offer("other", item(f"other {name}", priority=0))
    assert queue.cut("other", 0) is not None
    queue.offer("other", item("other c", priority=0))
    queue.offer("other", item("other d", priority=0))
    refused = queue.offer("k", item("important", priority=1))
    assert [each.item for each in refused] == ["other d"]
    assert queue.waiting_rows == 4

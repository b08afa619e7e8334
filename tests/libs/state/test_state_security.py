"""Security events of any writer: one thread adds, another takes, and each is counted once."""

import json
import threading
from collections import Counter

from headrace.state.security import SecurityEvents


def test_events_that_are_added_while_others_are_taken_are_counted_once() -> None:
    now, each = [0.0], 2_000
    events = SecurityEvents(lambda: now[0], {"method": "console"})
    done, taken = threading.Event(), list[bytes]()

    def add(kind: str) -> None:
        for i in range(each):
            now[0] += 0.01
            events.add(kind, f"10.0.0.{i % 7}", {})

    def take() -> None:
        while not done.is_set():
            lines = events.take()
            if len(taken) % 2:
                events.put_back(lines)  # as if the disk were full
            else:
                taken.extend(lines)

    taker = threading.Thread(target=take)
    adders = [threading.Thread(target=add, args=(kind,)) for kind in ("unknown_key", "forged_form")]
    taker.start()
    for thread in adders:
        thread.start()
    for thread in adders:
        thread.join()
    done.set()
    taker.join()
    lines = [json.loads(line) for line in [*taken, *events.take(closing=True)]]
    counted = Counter[str]()
    for line in lines:
        counted.update(line["events"] if line["kind"] == "summary" else [line["kind"]])
    assert counted == {"unknown_key": each, "forged_form": each}
    assert all(line["method"] == "console" for line in lines if line["kind"] == "summary")
    assert events.waiting == 0


def test_details_do_not_replace_who_and_what() -> None:
    events = SecurityEvents(lambda: 0.0)
    events.add("denied", "10.0.0.1", {"kind": "nothing", "client": "me", "time": "never", "path": "x" * 999})
    told = json.loads(b"".join(events.take()))
    assert (told["kind"], told["client"], told["time"][:4], len(told["path"])) == (
        "denied",
        "10.0.0.1",
        "1970",
        256,
    )

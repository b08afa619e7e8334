"""What ends a process is found in few crashes, and everything else serves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.resources.apply import Unit
from headrace.resources.trials import CRASHED, Trials
from tests.libs.resources.control_history import History, key
from tests.libs.resources.one_process import Memory, Process, began


def crash_loop(
    memory: Memory, history: History, in_compile: set[str], in_service: set[str], limit: int
) -> tuple[Process, int]:
    """Starts processes until one lives on; returns it and the number of those that ended. Poisons are named by their text."""
    crashes = 0
    while True:
        left: list[Memory] = []

        def compile_key(unit: Unit, left: list[Memory] = left, memory: Memory = memory) -> object:
            if unit.resources[0].content.decode() in in_compile:
                left.append(memory.crashed())
            return None

        process = Process(memory, key=compile_key)
        process.apply(history)
        for _ in range(200):
            if left or in_service & set(process.keys().values()):
                break
            if not process.problems() or all(p == CRASHED for p in process.problems().values()):
                process.after(6)
                return process, crashes
            process.after(6)
        else:
            raise AssertionError(f"it never settles: {process.problems()}")
        memory = left[0] if left else process.memory.crashed()
        crashes += 1
        assert crashes <= limit, "too many crashes"


def poisoned(count: int, names: list[str]) -> tuple[Memory, History]:
    """A memory in which everything has proven itself, and a history that changes all and poisons some."""
    history = History()
    history.change(*(key(f"k{i:03}", "good") for i in range(count)))
    process = Process()
    process.apply(history)
    process.after(6)
    history.change(*(key(f"k{i:03}", f"poison {i}" if f"k{i:03}" in names else "new") for i in range(count)))
    return process.memory.crashed(), history


def test_one_end_holds_nothing_back_and_the_second_what_has_not_proven_itself() -> None:
    process, history = began(key("a", "proven"))
    process.after(6)
    process.take(history, key("a", "newer"))
    once = process.crashed(history)
    assert (once.keys(), once.problems()) == ({"a": "newer"}, {})
    twice = once.crashed(history)
    assert (twice.keys(), twice.problems()) == ({"a": "proven"}, {"a": CRASHED})
    # The process after it, which ends as it should, knows it still.
    twice.applier.close()
    third = twice.crashed(history)
    assert third.problems() == {"a": CRASHED}
    third.take(history, key("a", "mended"))
    third.applier.close()
    fourth = third.crashed(history)
    assert (fourth.keys(), fourth.problems()) == ({"a": "mended"}, {})


def test_what_proved_itself_after_an_end_is_not_suspected_for_it() -> None:
    process, history = began(key("a"))
    again = process.crashed(history)
    again.after(6)
    assert again.applier.trials.retried == set()
    again.take(history, key("a", "2"))
    third = again.crashed(history)
    assert (third.keys(), third.problems()) == ({"a": "2"}, {})
    # Nor is what was there before a later poison.
    third.take(history, key("bad", "poison"))
    last, crashes = crash_loop(third.memory.crashed(), history, set(), {"poison"}, 1)
    assert (last.keys(), last.problems(), crashes) == ({"a": "2"}, {"bad": CRASHED}, 1)


def test_a_poison_is_found_though_something_else_is_new_at_each_end() -> None:
    history, memory, ends = History(), Memory(), 3
    history.change(key("poison"))
    for end in range(ends):
        process = Process(memory)
        process.apply(history)
        process.take(history, key(f"new {end}"))
        assert process.keys()["poison"] == "x"
        memory = process.memory.crashed()
    process = Process(memory)
    process.apply(history)
    while set(process.problems().values()) - {CRASHED}:
        process.after(6)
    assert process.problems() == {"poison": CRASHED}
    assert process.keys() == {f"new {end}": "x" for end in range(ends)}


def test_a_poison_in_a_new_process_is_found_after_one_more_crash() -> None:
    history = History()
    history.change(*(key(f"k{i}", "poison" if i == 3 else "good") for i in range(6)))
    process, crashes = crash_loop(Memory(), history, set(), {"poison"}, 3)
    assert process.problems() == {"k3": CRASHED}
    assert crashes == 3
    assert crash_loop(Memory(), history, {"poison"}, set(), 1)[1] == 1


def test_one_poison_among_a_thousand_is_found_in_few_crashes() -> None:
    memory, history = poisoned(1000, ["k500"])
    process, crashes = crash_loop(memory, history, set(), {"poison 500"}, 5)
    # All again, groups of 62, of 3, of 1, and that one.
    assert crashes == 5
    assert process.problems() == {"k500": CRASHED}
    assert process.keys()["k499"] == "new"
    memory, history = poisoned(1000, ["k500"])
    assert crash_loop(memory, history, {"poison 500"}, set(), 1)[1] == 1


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=10), st.sets(st.integers(0, 39), max_size=10))
def test_poisons_are_found(count: int, compiled: set[int], served: set[int]) -> None:
    names = {i for i in compiled | served if i < count}
    memory, history = poisoned(count, [f"k{i:03}" for i in names])
    process, crashes = crash_loop(
        memory,
        history,
        {f"poison {i}" for i in compiled},
        {f"poison {i}" for i in served - compiled},
        4 * len(names) + 1,
    )
    wanted = {f"k{i:03}": "good" if i in names else "new" for i in range(count)}
    assert process.keys() == wanted
    assert crashes >= len(names)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"marked":[],"groups":3,"quarantined":{},"proven":[],"retried":[]}']
)
def test_damaged_trials_are_said(content: bytes) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        Trials.from_bytes(content)


def test_trials_are_read_as_they_were_written() -> None:
    trials = Trials(
        {"a"},
        [["a", "b"], ["c"]],
        {"d": "why"},
        {("key", "k"): ("e", (("key", "k", "f", 3),))},
        retried={"a"},
    )
    assert Trials.from_bytes(trials.to_bytes()) == trials
    assert trials.used() == {"f"}

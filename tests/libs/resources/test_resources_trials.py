"""What ends a process is found in few crashes, and everything else serves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.resources.apply import Unit
from headrace.resources.trials import CRASHED, Trials
from tests.libs.resources.control_history import History, key
from tests.libs.resources.one_process import Memory, Process


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


@pytest.mark.parametrize("where", ["compile", "service"])
def test_thirty_poisons_at_once_end_a_process_once_each(where: str) -> None:
    names = [f"k{i:03}" for i in range(30)]
    memory, history = poisoned(30, names)
    texts = {f"poison {i}" for i in range(30)}
    in_compile, in_service = (texts, set[str]()) if where == "compile" else (set[str](), texts)
    process, crashes = crash_loop(memory, history, in_compile, in_service, 31)
    assert process.keys() == dict.fromkeys(names, "good")
    assert set(process.problems().values()) == {CRASHED}
    assert crashes == (30 if where == "compile" else 31)


def test_who_kills_a_new_process_holds_nothing_back() -> None:
    process, history = Process(), History()
    history.change(key("a"), key("b"))
    process.apply(history)
    again = Process(process.memory.crashed())
    again.apply(history)
    assert (again.keys(), again.problems()) == ({"a": "x", "b": "x"}, {})
    again.after(6)
    history.change(key("b", "2"))
    again.apply(history)
    third = Process(again.memory.crashed())
    third.apply(history)
    assert third.problems() == {"b": CRASHED}


def test_a_poison_in_a_new_process_is_found_after_one_more_crash() -> None:
    history = History()
    history.change(*(key(f"k{i}", "poison" if i == 3 else "good") for i in range(6)))
    process, crashes = crash_loop(Memory(), history, set(), {"poison"}, 3)
    assert process.problems() == {"k3": CRASHED}
    assert crashes == 3
    assert crash_loop(Memory(), history, {"poison"}, set(), 1)[1] == 1


def test_one_poison_among_a_thousand_is_found_in_few_crashes() -> None:
    memory, history = poisoned(1000, ["k500"])
    process, _ = crash_loop(memory, history, set(), {"poison 500"}, 4)
    assert process.problems() == {"k500": CRASHED}
    assert process.keys()["k499"] == "new"
    memory, history = poisoned(1000, ["k500"])
    assert crash_loop(memory, history, {"poison 500"}, set(), 1)[1] == 1


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=6), st.sets(st.integers(0, 39), max_size=6))
def test_poisons_are_found_and_everything_else_serves(
    count: int, compiled: set[int], served: set[int]
) -> None:
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
    "content", [b"", b"[]", b"{}", b'{"marked":[],"groups":3,"quarantined":{},"proven":[],"retried":false}']
)
def test_damaged_trials_are_said(content: bytes) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        Trials.from_bytes(content)


def test_trials_are_read_as_they_were_written() -> None:
    trials = Trials(
        {"a"}, [["a", "b"], ["c"]], {"d": "why"}, {("key", "k"): ("e", (("key", "k", "f", 3),))}, retried=True
    )
    assert Trials.from_bytes(trials.to_bytes()) == trials
    assert trials.used() == {"f"}

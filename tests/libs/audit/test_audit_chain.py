"""The chain of the audit's lines names what was done to it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.audit import chain
from headrace.audit.chain import Fault, Head

LINES = 8


@dataclass(frozen=True)
class Row:
    number: int
    line: bytes
    sha256: bytes


def row(number: int, previous: bytes, reason: str = "") -> Row:
    line = chain.build(
        number=number,
        epoch=1,
        at_s=1.0,
        id=f"c{number}",
        actor="ann",
        action="release.deploy",
        subject="flights",
        reason=reason,
        details={},
        writes=[chain.Written("release", "flights", number, "00")],
        previous=previous,
    )
    return Row(number, line, chain.digest(line))


def rows(count: int = LINES, reason: str = "") -> list[Row]:
    found: list[Row] = []
    for number in range(1, count + 1):
        # The same beginning for every reason: somebody went back to line 4 and went on otherwise.
        found.append(
            row(number, found[-1].sha256 if found else chain.BEFORE_FIRST, reason if number > 4 else "")
        )
    return found


def head(found: list[Row], where: str = "") -> Head:
    return Head(found[-1].number, found[-1].sha256, where)


def faults(found: list[Row], end: Head | None = None, *known: Head) -> list[tuple[Fault, int]]:
    return [(p.fault, p.number) for p in chain.verify(found, end or head(rows()), known)]


def renumbered(found: list[Row]) -> list[Row]:
    return [replace(one, number=number) for number, one in enumerate(found, 1)]


def test_a_line_is_canonical() -> None:
    line = row(1, chain.BEFORE_FIRST, "naïve").line
    fields = json.loads(line)
    assert line == json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert fields["at"] == "1970-01-01T00:00:01.000Z"
    assert fields["previous"] == "0" * 64
    assert chain.written(fields) == [chain.Written("release", "flights", 1, "00")]


def test_nothing_is_wrong_with_what_was_not_touched() -> None:
    seen: list[int] = []
    known = [Head(r.number, r.sha256) for r in rows()]
    assert chain.verify(rows(), head(rows()), known, lambda number, _: seen.append(number)) == []
    assert seen == [*range(1, LINES + 1)]


@pytest.mark.parametrize("at", range(LINES))
def test_a_flipped_line_is_named(at: int) -> None:
    found = rows()
    found[at] = replace(found[at], line=found[at].line.replace(b"ann", b"bob"))
    assert faults(found) == [(Fault.ALTERED, at + 1)]


@pytest.mark.parametrize("at", range(LINES))
def test_a_line_altered_with_its_hash_is_named(at: int) -> None:
    found = rows()
    line = found[at].line.replace(b"ann", b"bob")
    found[at] = Row(at + 1, line, chain.digest(line))
    assert faults(found) == [(Fault.ALTERED, at + 1)]


@pytest.mark.parametrize("at", range(LINES))
def test_a_flipped_hash_is_named(at: int) -> None:
    found = rows()
    found[at] = replace(found[at], sha256=bytes(32))
    assert (Fault.ALTERED, at + 1) in faults(found)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("closed", [False, True], ids=["gap", "closed"])
@pytest.mark.parametrize("at", range(1, LINES - 3))
def test_removed_lines_are_named(at: int, closed: bool, count: int) -> None:
    found = rows()
    del found[at : at + count]
    problems = faults(renumbered(found) if closed else found)
    assert problems == [(Fault.REMOVED, at + 1)]


def test_a_removed_first_line_is_named() -> None:
    assert faults(rows()[1:]) == [(Fault.REMOVED, 1)]


@pytest.mark.parametrize("count", [1, LINES])
def test_a_truncated_log_is_named(count: int) -> None:
    assert faults(rows()[: LINES - count]) == [(Fault.TRUNCATED, LINES - count + 1)]


@pytest.mark.parametrize("at", range(LINES))
def test_an_added_line_is_named(at: int) -> None:
    found = rows()
    found.insert(at, row(at + 1, found[at - 1].sha256 if at else chain.BEFORE_FIRST, "forged"))
    assert (Fault.ADDED, at + 2) in faults(renumbered(found))


def test_a_line_added_at_the_end_is_named() -> None:
    assert faults(rows(LINES + 1)) == [(Fault.ADDED, LINES + 1)]


@pytest.mark.parametrize("distance", [1, 3])
@pytest.mark.parametrize("at", range(LINES - 3))
def test_reordered_lines_are_named(at: int, distance: int) -> None:
    found = rows()
    found[at], found[at + distance] = found[at + distance], found[at]
    problems = faults(renumbered(found))
    assert {fault for fault, _ in problems} == {Fault.REORDERED}
    assert (Fault.REORDERED, at + distance + 1) in problems


def test_lines_under_other_numbers_are_named() -> None:
    found = [replace(one, number=one.number + 5) for one in rows()]
    assert faults(found) == [(Fault.REORDERED, 6)]


def test_a_log_that_was_rolled_back_is_named_by_the_heads_that_others_hold() -> None:
    old = rows(5)
    assert faults(old, head(old)) == []
    assert faults(old, head(old), head(rows(7), "router-1")) == [(Fault.ROLLED_BACK, 7)]
    # And then it went on, past the number that it had.
    other = rows(LINES + 3, "other")
    assert faults(other, head(other), head(rows(4))) == []
    assert faults(other, head(other), head(rows(7), "router-1")) == [(Fault.ROLLED_BACK, 7)]


def test_a_head_that_does_not_fit_the_last_line_is_named() -> None:
    assert faults(rows(), Head(LINES, bytes(32))) == [(Fault.ALTERED, LINES)]


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[1]", b"\xff", b'{"number":"1","previous":"","writes":[]}', b"null"]
)
def test_what_is_no_line_is_named(line: bytes) -> None:
    found = rows()
    found[2] = Row(3, line, chain.digest(line))
    assert (Fault.ALTERED, 3) in faults(found)


def flip(found: list[Row], at: int) -> list[Row]:
    line = bytearray(found[at].line)
    line[at % len(line)] ^= 1
    return [*found[:at], Row(found[at].number, bytes(line), found[at].sha256), *found[at + 1 :]]


CHANGES: list[Callable[[list[Row], int], list[Row]]] = [
    flip,
    lambda found, at: found[:at] + found[at + 1 :],
    lambda found, at: found[:at],
    lambda found, at: [*found[:at], found[at], *found[at:]],
    lambda found, at: [*found[:at], *reversed(found[at:])] if at < len(found) - 1 else found[:at],
]


@given(
    changes=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, LINES - 1)), min_size=1, max_size=4),
    closed=st.booleans(),
)
def test_whatever_was_done_is_seen(
    changes: list[tuple[Callable[[list[Row], int], list[Row]], int]], closed: bool
) -> None:
    found = rows()
    for change, at in changes:
        if found:
            found = change(found, at % len(found))
    if closed:
        found = renumbered(found)
    assert (faults(found) == []) == (found == rows())

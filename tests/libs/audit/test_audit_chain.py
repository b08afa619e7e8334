"""The chain of the audit's lines names what was done to it."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.audit import chain
from headrace.audit.chain import AuditLine, Fault, Head

LINES = 8


def row(number: int, previous: bytes, reason: str = "") -> AuditLine:
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
    return AuditLine(number, line, chain.digest(line))


def rows(count: int = LINES, reason: str = "") -> list[AuditLine]:
    found: list[AuditLine] = []
    for number in range(1, count + 1):
        # The same beginning for every reason: somebody went back to line 4 and went on otherwise.
        found.append(
            row(number, found[-1].sha256 if found else chain.BEFORE_FIRST, reason if number > 4 else "")
        )
    return found


def head(found: list[AuditLine], where: str = "") -> Head:
    return Head(found[-1].number, found[-1].sha256, where)


def faults(found: list[AuditLine], end: Head | None = None, *known: Head) -> list[tuple[Fault, int]]:
    return [(p.fault, p.number) for p in chain.verify(found, end or head(rows()), known)]


def renumbered(found: list[AuditLine]) -> list[AuditLine]:
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


def altered(found: list[AuditLine], at: int, line: bytes, sha256: bytes = b"") -> list[AuditLine]:
    return [*found[:at], AuditLine(found[at].number, line, sha256 or chain.digest(line)), *found[at + 1 :]]


def by_bob(found: list[AuditLine], at: int) -> bytes:
    return found[at].line.replace(b"ann", b"bob")


def swapped(found: list[AuditLine], at: int, distance: int) -> list[AuditLine]:
    found[at], found[at + distance] = found[at + distance], found[at]
    return renumbered(found)


def added(found: list[AuditLine], at: int) -> list[AuditLine]:
    one = row(at + 1, found[at - 1].sha256 if at else chain.BEFORE_FIRST, "forged")
    return renumbered([*found[:at], one, *found[at:]])


NO_LINES = [b"", b"{}", b"[1]", b"\xff", b'{"number":"1","previous":"","writes":[]}', b"null"]
# What is done, where it is done, the fault, and how far from there its line is.
DONE: dict[str, tuple[Callable[[list[AuditLine], int], list[AuditLine]], range, Fault, int]] = {
    "flipped": (lambda r, at: altered(r, at, by_bob(r, at), r[at].sha256), range(LINES), Fault.ALTERED, 1),
    "with its hash": (lambda r, at: altered(r, at, by_bob(r, at)), range(LINES), Fault.ALTERED, 1),
    "hash": (lambda r, at: altered(r, at, r[at].line, bytes(32)), range(LINES), Fault.ALTERED, 1),
    "no line": (lambda r, i: altered(r, 2, NO_LINES[i]), range(len(NO_LINES)), Fault.ALTERED, 0),
    "gap": (lambda r, at: r[:at] + r[at + 1 :], range(LINES - 1), Fault.REMOVED, 1),
    "gap of 3": (lambda r, at: r[:at] + r[at + 3 :], range(LINES - 3), Fault.REMOVED, 1),
    "closed": (lambda r, at: renumbered(r[:at] + r[at + 1 :]), range(1, LINES - 1), Fault.REMOVED, 1),
    "closed 3": (lambda r, at: renumbered(r[:at] + r[at + 3 :]), range(1, LINES - 3), Fault.REMOVED, 1),
    "truncated": (lambda r, at: r[:at], range(LINES), Fault.TRUNCATED, 1),
    "added": (added, range(LINES), Fault.ADDED, 2),
    "added at the end": (lambda _, at: rows(at + 1), range(LINES, LINES + 1), Fault.ADDED, 1),
    "neighbours": (lambda r, at: swapped(r, at, 1), range(LINES - 3), Fault.REORDERED, 2),
    "reordered": (lambda r, at: swapped(r, at, 3), range(LINES - 3), Fault.REORDERED, 4),
}


@pytest.mark.parametrize("done", DONE)
def test_what_was_done_is_named_with_its_line(done: str) -> None:
    change, places, fault, further = DONE[done]
    for at in places:
        problems = faults(change(rows(), at))
        assert problems[-1] == (fault, 3 if done == "no line" else at + further)
        assert done == "added" or {found for found, _ in problems} == {fault}


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

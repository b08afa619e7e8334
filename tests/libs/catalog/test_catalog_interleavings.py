"""Two transactions on PostgreSQL, stopped before each of their statements: what comes of them is what it would be in turn."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest

from headrace.catalog import verification
from headrace.catalog.access import Change, LeaseToken, Made, Write
from headrace.catalog.errors import LeaseLostError, RecordChangedError, RecordInvalidError
from headrace.catalog.records import CatalogRecords, Reading
from tests.libs.catalog.records_contract import LONG_S, change, contents, write
from tests.libs.catalog.stepped import Stepped
from tests.postgres_server import PostgresServer

# More than the statements of any of these transactions, with its begin and its commit.
MOST_STEPS = 12
Work = Callable[[CatalogRecords], Any]


@dataclass
class Pair:
    """Two processes' connections, a third one for the test, and one that looks on."""

    both: tuple[CatalogRecords, CatalogRecords]
    records: CatalogRecords
    observer: psycopg.Connection[Any]

    def run(
        self, first: Work, second: Work, schedule: list[int], before_second: Work | None = None
    ) -> list[Any]:
        """The results. `schedule`: whose next statement it is, 0 or 1. `before_second`: done before its first statement."""
        works = zip(self.both, (first, second), strict=True)
        both = [Stepped(records, self.observer, work) for records, work in works]
        for index in schedule:
            if index == 1 and before_second is not None:
                before_second(self.records)
                before_second = None
            both[index].step()
        for one in both:
            one.free()
        return [one.finish() for one in both]


@pytest.fixture(scope="module")
def address(postgres_server: PostgresServer) -> str:
    return postgres_server.create("interleavings")


@pytest.fixture(scope="module")
def pair(address: str, postgres_server: PostgresServer) -> Iterator[Pair]:
    records = CatalogRecords.open(address, initialise=True)
    both = (CatalogRecords.open(address, initialise=False), CatalogRecords.open(address, initialise=False))
    with postgres_server.connect("interleavings") as observer:
        yield Pair(both, records, observer)
    assert verification.verify(records) == []
    for opened in (*both, records):
        opened.close()


def schedules() -> list[list[int]]:
    """The first gets so many statements, then the second so many; the rest of the first; and some by chance."""
    by_turns = [[0] * a + [1] * b for a in range(MOST_STEPS) for b in (1, 2, 3, 5, MOST_STEPS)]
    chance = random.Random(23)
    return by_turns + [[chance.randrange(2) for _ in range(2 * MOST_STEPS)] for _ in range(30)]


def changing(*writes: Write, **more: Any) -> Work:
    sent = change(*writes, **more)
    return lambda records: records.change(sent)


def each(
    pair: Pair, changes: int, first: Callable[[int], Work], second: Callable[[int], Work] | None = None
) -> Iterator[tuple[int, list[Any]]]:
    """Number and results of each schedule, within which so many changes are made. `second` None: what `first` gives, the same."""
    for number, schedule in enumerate(schedules()):
        before, one = pair.records.position().number, first(number)
        found = pair.run(one, second(number) if second else one, schedule)
        assert pair.records.position().number == before + changes, schedule
        yield number, found


def test_of_changes_of_one_record_one_is_made_and_the_other_hears_it(pair: Pair) -> None:
    winners = set()
    works = [lambda n, i=i: changing(write(f"c{n}", b"%d" % i, 0)) for i in (0, 1)]
    for number, made in each(pair, 1, *works):
        [winner] = [index for index, one in enumerate(made) if isinstance(one, Made)]
        assert isinstance(made[1 - winner], RecordChangedError), made
        assert contents(pair.records, f"c{number}") == [(1, b"%d" % winner)]
        winners.add(winner)
    assert winners == {0, 1}


def test_changes_of_one_record_that_expect_nothing_are_both_made(pair: Pair) -> None:
    works = [lambda n, i=i: changing(write(f"d{n}", b"%d" % i)) for i in (0, 1)]
    for number, made in each(pair, 2, *works):
        versions = {one.records[0].version: b"%d" % index for index, one in enumerate(made)}
        assert contents(pair.records, f"d{number}") == [(2, versions[2]), (1, versions[1])]


def test_what_a_change_was_checked_by_is_so_when_it_is_made(pair: Pair) -> None:
    """Each is made only where there is not the record of the other."""

    def work(own: str, other: str) -> Work:
        def check(_: Change, records: Reading) -> None:
            if records.read("release", other):
                raise RecordInvalidError("release", own, "the other is there")

        return lambda records: records.change(change(write(own, b"1")), check)

    for _, made in each(pair, 1, lambda n: work(f"i{n}", f"j{n}"), lambda n: work(f"j{n}", f"i{n}")):
        assert sorted(type(one).__name__ for one in made) == ["Made", "RecordInvalidError"]


def test_a_change_that_is_sent_twice_at_once_is_made_once(pair: Pair) -> None:
    for _, made in each(pair, 1, lambda n: changing(write(f"e{n}", b"1", 0), id=f"e{n}")):
        assert isinstance(made[0], Made), made
        assert made[0] == made[1]


def test_of_two_who_want_a_lease_one_has_it(pair: Pair) -> None:
    works = [lambda n, who=who: lambda r: r.take_lease(f"race{n}", who, LONG_S) for who in "ab"]
    for _, tokens in each(pair, 0, *works):
        assert sorted(map(bool, tokens)) == [False, True]


def test_nobody_commits_with_a_lease_that_somebody_else_has_taken_over(pair: Pair) -> None:
    """The lease ends just before the second process takes it, wherever the first one is by then."""
    outcomes = set()
    for number, schedule in enumerate(schedules()):
        name = f"lease{number}"
        token = pair.records.take_lease(name, "a", LONG_S)
        fenced = changing(write(f"f{number}", b"1"), lease=LeaseToken(name, token))

        def end(_: CatalogRecords, name: str = name) -> None:
            pair.observer.execute("UPDATE leases SET until = 0 WHERE name = %s", (name,))

        def succeed(records: CatalogRecords, name: str = name) -> int:
            assert records.take_lease(name, "b", LONG_S) != ""
            return records.position().number

        made, after = pair.run(fenced, succeed, schedule, end)
        if isinstance(made, Made):
            assert made.position.number <= after, schedule
        else:
            assert isinstance(made, LeaseLostError), (schedule, made)
        outcomes.add(type(made))
    assert outcomes == {Made, LeaseLostError}


def test_a_reader_sees_one_moment(pair: Pair) -> None:
    """What changed since a position fits the position that is said with it."""
    for number, schedule in enumerate(schedules()):
        since = pair.records.position().number
        made, (position, changed) = pair.run(
            changing(write(f"g{number}", b"1"), write(f"h{number}", b"1")),
            partial(CatalogRecords.changes_since, number=since),
            schedule,
        )
        expected = [] if position.number == since else [f"g{number}", f"h{number}"]
        assert [r.name for r in changed] == expected, schedule
        assert isinstance(made, Made)


def test_one_that_is_frozen_in_its_change_does_not_hold_the_others_up(pair: Pair) -> None:
    frozen = Stepped(pair.both[0], pair.observer, changing())
    for _ in range(4):
        frozen.step()
    made = pair.records.change(change())
    # It goes on when the database has ended its transaction, and makes its change in another one.
    again = frozen.finish()
    assert isinstance(again, Made)
    assert again.position.number == made.position.number + 1

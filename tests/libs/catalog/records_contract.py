"""What each implementation of `Records` must do. A test module inherits `RecordsContract` and brings the fixture `records`, of a
database that was just initialised."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.audit import chain
from headrace.catalog.access import KEPT_VERSIONS, Change, LeaseToken, Made, Position, Record, Records, Write
from headrace.catalog.errors import LeaseLostError, RecordChangedError, RecordInvalidError

# An upper limit where something is waited for that must come.
LONG_S = 60.0


def change(*writes: Write, action: str = "release.deploy", **more: object) -> Change:
    return Change("ann", action, "flights", writes, **more)  # type: ignore[arg-type]  # names and types as Change has them


def write(name: str, content: bytes | None, expected: int | None = None, kind: str = "release") -> Write:
    return Write(kind, name, content, expected)


def contents(records: Records, name: str, kind: str = "release") -> list[tuple[int, bytes | None]]:
    return [(r.version, r.content) for r in records.read(kind, name, 100)]


def verified(records: Records) -> list[chain.Problem]:
    position = records.position()
    return chain.verify(records.lines(), chain.Head(position.number, position.head))


class RecordsContract:
    def test_what_was_just_initialised_has_a_first_line(self, records: Records) -> None:
        [line] = records.lines()
        assert records.position() == Position(1, 1, hashlib.sha256(line.line).digest())
        assert json.loads(line.line)["action"] == "records.initialise"

    def test_a_change_is_read_back_with_its_line(self, records: Records) -> None:
        before = records.position()
        made = records.change(
            change(write("flights", b"\x00one", 0), reason="new", details={"ticket": "7"}, id="c1")
        )
        assert made.records == (Record("release", "flights", 1, 2, None),)
        assert records.read("release", "flights") == [Record("release", "flights", 1, 2, b"\x00one")]
        assert records.position() == made.position
        [line] = records.lines(after=1)
        said = json.loads(line.line)
        assert line.sha256 == made.position.head == hashlib.sha256(line.line).digest()
        assert said.pop("at").endswith("Z")
        assert said == {
            "number": 2,
            "epoch": 1,
            "id": "c1",
            "actor": "ann",
            "action": "release.deploy",
            "subject": "flights",
            "reason": "new",
            "details": {"ticket": "7"},
            "writes": [
                {
                    "kind": "release",
                    "name": "flights",
                    "version": 1,
                    "sha256": hashlib.sha256(b"\x00one").hexdigest(),
                }
            ],
            "previous": before.head.hex(),
        }

    @pytest.mark.parametrize("expected", [0, 2])
    def test_a_record_that_has_another_version_is_not_changed(self, records: Records, expected: int) -> None:
        records.change(change(write("flights", b"1")))
        before = records.position()
        with pytest.raises(RecordChangedError) as failed:
            records.change(change(write("other", b"new"), write("flights", b"2", expected)))
        assert (failed.value.kind, failed.value.name, failed.value.version) == ("release", "flights", 1)
        assert records.position() == before
        assert contents(records, "flights") == [(1, b"1")]
        assert contents(records, "other") == []
        with pytest.raises(RecordChangedError) as failed:
            records.change(change(write("never", b"2", 1)))
        assert (failed.value.version, records.read("release", "never")) == (0, [])

    def test_a_change_writes_all_its_records(self, records: Records) -> None:
        records.change(change(write("a", b"1")))
        made = records.change(
            change(write("b", b"2", 0), write("a", None, 1), write("a", b"3", kind="document"))
        )
        assert [(r.kind, r.name, r.version, r.number) for r in made.records] == [
            ("release", "b", 1, 3),
            ("release", "a", 2, 3),
            ("document", "a", 1, 3),
        ]
        assert contents(records, "a") == [(2, None)]
        assert contents(records, "a", "document") == [(1, b"3")]

    def test_a_change_of_many_records(self, records: Records) -> None:
        names = [f"n{number:04}" for number in range(1100)]
        records.change(change(*(write(name, name.encode(), 0) for name in names)))
        records.change(change(*(write(name, b"2", 1) for name in names)))
        assert [(r.name, r.version) for r in records.list("release")] == [(name, 2) for name in names]

    def test_a_change_that_is_sent_again_is_made_once(self, records: Records) -> None:
        sent = change(write("flights", b"1", 0), write("gone", None), id="once")
        made = records.change(sent)
        for number in range(KEPT_VERSIONS + 1):
            records.change(change(write("flights", b"%d" % number)))
        before = records.position()
        assert records.change(sent) == made
        with pytest.raises(RecordInvalidError):
            records.change(change(write("flights", b"2"), id="once"))
        assert records.position() == before

    def test_the_newest_versions_stay(self, records: Records) -> None:
        for number in range(1, KEPT_VERSIONS + 4):
            records.change(change(write("flights", b"%d" % number, number - 1)))
        newest = KEPT_VERSIONS + 3
        assert contents(records, "flights") == [(n, b"%d" % n) for n in range(newest, 3, -1)]
        assert [r.version for r in records.read("release", "flights", 2)] == [newest, newest - 1]

    def test_of_a_deleted_record_its_version_stays(self, records: Records) -> None:
        records.change(change(write("flights", b"1")))
        records.change(change(write("flights", b"2")))
        records.change(change(write("flights", None, 2)))
        assert contents(records, "flights") == [(3, None)]
        assert records.list("release") == []
        with pytest.raises(RecordChangedError):
            records.change(change(write("flights", b"new", 0)))
        records.change(change(write("flights", b"new", 3)))
        assert contents(records, "flights") == [(4, b"new"), (3, None)]
        assert verified(records) == []

    def test_records_are_listed_by_the_bytes_of_their_names(self, records: Records) -> None:
        names = ["b", "a%", "a_", "aé", "aZ", "a", "A", "a😀", "a\ufffd"]
        records.change(
            change(*(write(n, n.encode()) for n in names), write("x", b"", kind="other"), write("a0", None))
        )
        assert [r.content for r in records.list("other")] == [b""], "an empty content is no deletion"
        by_bytes = sorted(names, key=str.encode)
        assert [(r.name, r.content) for r in records.list("release")] == [(n, n.encode()) for n in by_bytes]
        assert [(r.name, r.content) for r in records.list("release", "a", names_only=True)] == [
            (n, None) for n in by_bytes if n.startswith("a")
        ]
        assert [r.name for r in records.list("release", "a%")] == ["a%"]

    def test_a_change_that_can_t_be_is_refused(self, records: Records) -> None:
        names = ("", "a\tb", "a\nb", "a\x00", "x" * 513, "\ud800")
        for wrong in (
            *(change(write(name, b"")) for name in names),
            *(change(write("a", b"", kind=name)) for name in names),
            change(write("a", b"1"), write("a", b"2")),
            change(write("a", bytes((2 << 20) + 1))),
            change(details={"a": "x" * (1 << 20)}),
        ):
            with pytest.raises(RecordInvalidError):
                records.change(wrong)
        assert records.position().number == 1

    def test_text_of_any_kind_is_in_the_line(self, records: Records) -> None:
        records.change(change(reason="naïve\x00\n😀", details={"\x00": "\t"}))
        said = json.loads(next(records.lines(1)).line)
        assert (said["reason"], said["details"], said["writes"]) == ("naïve\x00\n😀", {"\x00": "\t"}, [])
        assert verified(records) == []

    def test_one_holder_at_a_time_has_a_lease(self, records: Records) -> None:
        token = records.take_lease("ladder", "a", LONG_S)
        assert token
        assert records.take_lease("ladder", "b", LONG_S) == ""
        assert records.take_lease("ladder", "b", LONG_S, "00") == ""
        assert records.take_lease("other", "b", LONG_S) not in ("", token)
        assert records.take_lease("ladder", "a", LONG_S, token) == token
        records.give_back(LeaseToken("ladder", "00"))
        assert records.take_lease("ladder", "b", LONG_S) == ""
        records.give_back(LeaseToken("ladder", token))
        assert records.take_lease("ladder", "a", LONG_S, token) == ""
        assert records.take_lease("ladder", "b", LONG_S) not in ("", token)

    def test_a_lease_ends_by_the_clock(self, records: Records) -> None:
        old = records.take_lease("ladder", "a", 0.01)
        deadline = time.monotonic() + LONG_S
        with pytest.raises(LeaseLostError):  # noqa: PT012  # until the clock says so
            while time.monotonic() < deadline:
                records.change(change(lease=LeaseToken("ladder", old)))
        assert records.take_lease("ladder", "a", LONG_S, old) == "", "it is not prolonged"
        assert records.take_lease("ladder", "b", LONG_S) not in ("", old)

    def test_a_change_needs_its_lease(self, records: Records) -> None:
        old = LeaseToken("ladder", records.take_lease("ladder", "a", LONG_S))
        records.change(change(write("flights", b"1"), lease=old))
        records.give_back(old)
        with pytest.raises(LeaseLostError):
            records.change(change(lease=LeaseToken("ladder", "")))
        new = LeaseToken("ladder", records.take_lease("ladder", "b", LONG_S))
        before = records.position()
        for token in (old, LeaseToken("ladder", ""), LeaseToken("nobody's", new.token)):
            with pytest.raises(LeaseLostError):
                records.change(change(write("flights", b"2"), lease=token))
        assert records.position() == before
        records.change(change(write("flights", b"3"), lease=new))
        assert contents(records, "flights") == [(2, b"3"), (1, b"1")]

    def test_a_change_wakes_who_waits(self, records: Records) -> None:
        known = records.position()
        with ThreadPoolExecutor(8) as threads:
            waiting = [threads.submit(records.wait, known, LONG_S) for _ in range(8)]
            made = records.change(change())
            assert [one.result() for one in waiting] == [made.position] * 8
        for seen, wait_s in ((None, LONG_S), (known, LONG_S), (made.position, 0.0), (made.position, 0.01)):
            assert records.wait(seen, wait_s) == made.position

    def test_who_follows_sees_numbers_that_only_rise(self, records: Records) -> None:
        seen: list[int] = []
        followed = threading.Thread(target=lambda: follow(records, seen, 41))
        followed.start()
        with ThreadPoolExecutor(4) as threads:
            writes = (write(f"n{n % 4}", b"") for n in range(40))
            [*threads.map(lambda one: records.change(change(one)), writes)]
        followed.join()
        assert [r.version for r in records.list("release")] == [10] * 4
        assert verified(records) == []
        assert seen == sorted(set(seen))
        assert seen[-1] == 41

    def test_of_changes_of_one_record_one_wins(self, records: Records) -> None:
        barrier = threading.Barrier(4)

        def race(version: int) -> bool:
            barrier.wait()
            try:
                records.change(change(write("flights", b"%d" % threading.get_ident(), version)))
            except RecordChangedError as error:
                return error.version != version + 1
            return True

        with ThreadPoolExecutor(4) as threads:
            for version in range(8):
                assert [*threads.map(race, [version] * 4)].count(True) == 1
        assert records.position().number == 9
        assert verified(records) == []

    def test_one_change_sent_by_many_is_made_once(self, records: Records) -> None:
        sent = change(write("flights", b"1", 0), id="once")
        with ThreadPoolExecutor(4) as threads:
            made = [*threads.map(records.change, [sent] * 8)]
        assert made == [Made(records.position(), (Record("release", "flights", 1, 2, None),))] * 8

    def test_closing_ends_a_wait(self, records: Records) -> None:
        known = records.position()
        failed: list[BaseException] = []
        waiting = threading.Thread(
            target=lambda: failed.append(error_of(lambda: records.wait(known, LONG_S)))
        )
        waiting.start()
        records.close()
        waiting.join()
        assert isinstance(failed[0], OSError)


def follow(records: Records, seen: list[int], last: int) -> None:
    known = None
    while known is None or known.number < last:
        known = records.wait(known, LONG_S)
        seen.append(known.number)


def error_of(work: Callable[[], object]) -> BaseException:
    try:
        found = work()
    except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
        return error
    raise AssertionError(f"no error, but {found}")

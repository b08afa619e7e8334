"""A PostgreSQL that ends, comes back, is frozen, full, a standby, or is asked for what it does not have."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.storage import postgres as product
from headrace.storage.database import Database
from tests.libs.catalog.records_contract import LONG_S, change, contents, verified, write
from tests.postgres_server import PostgresServer, postgres
from tests.system import poll


def why(work: Callable[[], object]) -> Unavailable:
    with pytest.raises(RecordsUnavailableError) as failed:
        work()
    assert "headrace-postgres" not in str(failed.value), "an address is said"
    return failed.value.why


@pytest.fixture
def records(postgres_address: str) -> Iterator[CatalogRecords]:
    with closing(CatalogRecords.open(postgres_address, initialise=True)) as opened:
        yield opened


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """For who ends it."""
    with postgres() as server:
        yield server


@pytest.fixture
def own_records(own_server: PostgresServer) -> Iterator[CatalogRecords]:
    with closing(CatalogRecords.open(own_server.create("control"), initialise=True)) as opened:
        yield opened


def test_nothing_is_written(postgres_address: str, postgres_server: PostgresServer) -> None:
    assert why(lambda: CatalogRecords.open(postgres_address, initialise=False)) is Unavailable.NOT_INITIALISED
    with postgres_server.connect("test") as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


def test_a_server_that_is_too_old_is_refused(postgres_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "OLDEST_VERSION", 990000)
    assert why(lambda: CatalogRecords.open(postgres_address, initialise=True)) is Unavailable.UNREACHABLE


def test_limits_hold_for_each_transaction_and_leave_nothing_behind(records: CatalogRecords) -> None:
    names = (
        "transaction_isolation",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_read_only",
    )

    def settings(connection: sa.Connection) -> list[object]:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]

    assert records.database.write(settings) == ["read committed", "6s", "3s", "off"]
    assert records.database.query(settings) == ["repeatable read", "6s", "3s", "on"]
    pool = records.database._engine.pool
    raw = pool.raw_connection()
    assert [raw.execute(f"SHOW {name}").fetchone()[0] for name in names] == [
        "read committed",
        "0",
        "0",
        "off",
    ]
    assert raw.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    raw.close()


def test_a_server_that_may_lose_its_last_commits(postgres_server: PostgresServer) -> None:
    address = postgres_server.create("forgetful")
    with postgres_server.connect() as connection:
        connection.execute("ALTER DATABASE forgetful SET synchronous_commit = off")
    records = CatalogRecords.open(address, initialise=True)
    show = "SHOW synchronous_commit"
    assert records.database.write(lambda c: c.exec_driver_sql(show).scalar()) == "on"
    records.close()


def test_connections_that_died(records: CatalogRecords, postgres_server: PostgresServer) -> None:
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headrace'"
    for number in range(3):
        with postgres_server.connect() as connection:
            connection.execute(kill)
        records.change(change(write("flights", b"%d" % number, number)))
        with postgres_server.connect() as connection:
            connection.execute(kill)
        assert records.position().number == number + 2
    assert verified(records) == []


def test_the_answer_of_a_commit_is_lost(records: CatalogRecords, postgres_server: PostgresServer) -> None:
    """The connection dies after the commit, before its answer: the change is sent again, and found."""
    lost: list[int] = []

    def lose(connection: sa.Connection) -> None:
        if not lost and connection.get_execution_options().get("headrace_writes"):
            raw = connection.connection.dbapi_connection
            raw.execute("COMMIT")
            lost.append(raw.info.backend_pid)
            with postgres_server.connect() as other:
                other.execute("SELECT pg_terminate_backend(%s, 60000)", (lost[0],))

    sa.event.listen(records.database._engine.pool, "commit", lose)
    made = records.change(change(write("flights", b"1", 0)))
    assert lost
    assert made.position == records.position()
    assert made.position.number == 2
    assert contents(records, "flights") == [(1, b"1")]


def test_a_server_ends_and_is_back(own_records: CatalogRecords, own_server: PostgresServer) -> None:
    made = own_records.change(change(write("flights", b"1"))).position
    own_server.stop(signal.SIGQUIT)
    assert why(own_records.position) is Unavailable.UNREACHABLE
    assert why(lambda: own_records.change(change())) is Unavailable.UNREACHABLE
    assert why(lambda: own_records.wait(made, LONG_S)) is Unavailable.UNREACHABLE
    own_server.start()
    assert own_records.position() == made
    own_records.change(change(write("flights", b"2", 1)))
    assert verified(own_records) == []


def test_a_frozen_server(
    own_records: CatalogRecords, own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "ANSWER_S", 0.5)
    own_server.signal(signal.SIGSTOP)
    try:
        assert why(own_records.position) is Unavailable.UNREACHABLE
    finally:
        own_server.signal(signal.SIGCONT)
    assert own_records.change(change()).position.number == 2


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("53100", Unavailable.FULL),
        ("XX001", Unavailable.DAMAGED),
        ("23505", Unavailable.DAMAGED),
        ("42501", Unavailable.UNREACHABLE),
        ("57014", Unavailable.UNREACHABLE),
    ],
)
def test_what_the_server_says(records: CatalogRecords, state: str, expected: Unavailable) -> None:
    fail = f"DO $$ BEGIN RAISE EXCEPTION 'secret' USING ERRCODE = '{state}'; END $$"
    assert why(lambda: records.database.write(lambda c: c.exec_driver_sql(fail))) is expected


def test_a_conflict_that_the_server_ends_is_tried_again(records: CatalogRecords) -> None:
    tries: list[int] = []

    def conflict(connection: sa.Connection) -> int:
        tries.append(len(tries))
        if len(tries) < 3:
            connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION '' USING ERRCODE = '40P01'; END $$")
        return len(tries)

    assert records.database.write(conflict) == 3


def test_closed_while_it_reads(postgres_address: str, postgres_server: PostgresServer) -> None:
    database = Database.open(postgres_address)

    def close_meanwhile(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT 1"))
        database.close()

    database.query(close_meanwhile)
    with postgres_server.connect() as other:
        name = postgres_address.partition("@/")[2].partition("?")[0]
        poll(
            "nobody is connected",
            lambda: (
                other.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,)).fetchone()
                == (0,)
            ),
        )


def test_nobody_is_there_or_the_database_is_not(postgres_server: PostgresServer, tmp_path: Path) -> None:
    for address in (f"postgresql://ann@/control?host={tmp_path}", postgres_server.address("nothing")):
        assert why(lambda: CatalogRecords.open(address, initialise=True)) is Unavailable.UNREACHABLE  # noqa: B023  # it is called at once


def test_a_password_is_read_from_its_file_and_neither_it_nor_contents_are_said(
    postgres_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"{postgres_address}&password_file={tmp_path}/password"
    assert why(lambda: CatalogRecords.open(address, initialise=True)) is Unavailable.UNREACHABLE
    (tmp_path / "password").write_text("s3cret\n")
    wrong = sa.text("SELECT * FROM nothing WHERE a = :a")
    with caplog.at_level(logging.DEBUG), closing(CatalogRecords.open(address, initialise=True)) as records:
        password = records.database.query(lambda c: c.connection.dbapi_connection.info.password)
        assert password == "s3cret"
        records.change(change(write("flights", b"c0ntent")))
        with pytest.raises(RecordsUnavailableError) as failed:
            records.database.write(lambda c: c.execute(wrong, {"a": "c0ntent"}))
    said = f"{caplog.text} {failed.value} {failed.value.__cause__}"
    assert "s3cret" not in said
    assert "c0ntent" not in said


@pytest.mark.parametrize("harm", ["DROP SCHEMA public CASCADE; CREATE SCHEMA public", "DELETE FROM head"])
def test_an_emptied_database_is_said(records: CatalogRecords, harm: str) -> None:
    known = records.position()
    records.database.write(lambda c: c.exec_driver_sql(harm))
    for use in (
        records.position,
        lambda: records.change(change()),
        lambda: records.wait(known, LONG_S),
        lambda: records.take_lease("ladder", "a", LONG_S),
    ):
        assert why(use) is Unavailable.NOT_INITIALISED


def test_a_standby_takes_over(own_records: CatalogRecords, own_server: PostgresServer) -> None:
    known = own_records.change(change(write("flights", b"1"))).position
    with postgres(standby_of=own_server) as standby, ExitStack() as stack:
        hosts = f"{standby.folder},{own_server.folder}&target_session_attrs=read-write"
        addresses = standby.address("control"), f"postgresql://control@/control?host={hosts}"
        opened = [CatalogRecords.open(address, initialise=False) for address in addresses]
        for each in opened:
            stack.callback(each.close)
        records, both = opened
        assert contents(records, "flights") == [(1, b"1")]
        assert why(lambda: records.change(change())) is Unavailable.READ_ONLY
        assert why(lambda: records.take_lease("ladder", "a", LONG_S)) is Unavailable.READ_ONLY
        found, newest = known, both.change(change()).position
        while found != newest:
            found = records.wait(found, LONG_S)
        own_server.stop(signal.SIGQUIT)
        assert why(both.position) is Unavailable.UNREACHABLE
        standby.promote()
        for number, each in enumerate(opened, newest.number + 1):
            assert each.change(change()).position.number == number

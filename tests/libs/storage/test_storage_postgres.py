"""A PostgreSQL that ends, comes back, is frozen, full, a standby, or is asked for what it does not have."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from headrace.catalog.access import Position
from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.storage import postgres as product
from tests.libs.catalog.records_contract import LONG_S, change, contents, verified, write
from tests.postgres_server import PostgresServer, postgres


def why(work: Callable[[], object]) -> Unavailable:
    with pytest.raises(RecordsUnavailableError) as failed:
        work()
    assert "headrace-postgres" not in str(failed.value), "an address is said"
    return failed.value.why


@pytest.fixture
def records(postgres_address: str) -> Iterator[CatalogRecords]:
    opened = CatalogRecords.open(postgres_address, initialise=True)
    yield opened
    opened.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """For who ends it."""
    with postgres() as server:
        yield server


@pytest.fixture
def own_records(own_server: PostgresServer) -> Iterator[CatalogRecords]:
    opened = CatalogRecords.open(own_server.create("control"), initialise=True)
    yield opened
    opened.close()


def test_nobody_is_there(tmp_path: Path) -> None:
    address = f"postgresql://ann@/control?host={tmp_path}"
    assert why(lambda: CatalogRecords.open(address, initialise=True)) is Unavailable.UNREACHABLE


def test_a_database_that_is_not_there(postgres_server: PostgresServer) -> None:
    address = postgres_server.address("nothing")
    assert why(lambda: CatalogRecords.open(address, initialise=True)) is Unavailable.UNREACHABLE


def test_a_database_that_is_not_initialised_is_not_written(
    postgres_address: str, postgres_server: PostgresServer
) -> None:
    assert why(lambda: CatalogRecords.open(postgres_address, initialise=False)) is Unavailable.NOT_INITIALISED
    with postgres_server.connect("test") as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


def test_a_file_of_the_password_is_read_and_not_said(postgres_address: str, tmp_path: Path) -> None:
    address = f"{postgres_address}&password_file={tmp_path}/password"
    with pytest.raises(RecordsUnavailableError) as failed:
        CatalogRecords.open(address, initialise=True)
    assert failed.value.why is Unavailable.UNREACHABLE
    (tmp_path / "password").write_text("s3cret\n")
    seen: list[str] = []
    records = CatalogRecords.open(address, initialise=True)
    with records.database.read() as connection:
        info = connection.connection.dbapi_connection.info
        seen.append(info.password)
    records.close()
    assert seen == ["s3cret"]


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


def test_a_server_that_may_lose_its_last_commits_does_not_lose_these(
    postgres_server: PostgresServer,
) -> None:
    address = postgres_server.create("forgetful")
    with postgres_server.connect() as connection:
        connection.execute("ALTER DATABASE forgetful SET synchronous_commit = off")
    records = CatalogRecords.open(address, initialise=True)
    show = "SHOW synchronous_commit"
    assert records.database.write(lambda c: c.exec_driver_sql(show).scalar()) == "on"
    records.close()


def test_connections_that_died_are_not_noticed_by_callers(
    records: CatalogRecords, postgres_server: PostgresServer
) -> None:
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headrace'"
    for number in range(3):
        with postgres_server.connect() as connection:
            connection.execute(kill)
        records.change(change(write("flights", b"%d" % number, number)))
        with postgres_server.connect() as connection:
            connection.execute(kill)
        assert records.position().number == number + 2
    assert verified(records) == []


def test_a_commit_whose_answer_is_lost_is_made_once(
    records: CatalogRecords, postgres_server: PostgresServer
) -> None:
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


def test_a_server_that_ends_is_said_and_all_goes_on_when_it_is_back(
    own_records: CatalogRecords, own_server: PostgresServer
) -> None:
    made = own_records.change(change(write("flights", b"1"))).position
    own_server.stop(signal.SIGQUIT)
    assert why(own_records.position) is Unavailable.UNREACHABLE
    assert why(lambda: own_records.change(change())) is Unavailable.UNREACHABLE
    assert why(lambda: own_records.wait(made, LONG_S)) is Unavailable.UNREACHABLE
    own_server.start()
    assert own_records.position() == made
    own_records.change(change(write("flights", b"2", 1)))
    assert verified(own_records) == []


def test_a_frozen_server_is_said(
    own_records: CatalogRecords, own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "ANSWER_S", 0.5)
    own_server.signal(signal.SIGSTOP)
    try:
        assert why(own_records.position) is Unavailable.UNREACHABLE
    finally:
        own_server.signal(signal.SIGCONT)
    assert own_records.change(change()).position.number == 2


def test_an_emptied_database_is_said(records: CatalogRecords) -> None:
    known = records.position()
    records.database.write(lambda c: c.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    assert why(records.position) is Unavailable.NOT_INITIALISED
    assert why(lambda: records.change(change())) is Unavailable.NOT_INITIALISED
    assert why(lambda: records.wait(known, LONG_S)) is Unavailable.NOT_INITIALISED


def test_a_table_that_was_emptied_is_said(records: CatalogRecords) -> None:
    records.database.write(lambda c: c.exec_driver_sql("DELETE FROM head"))
    assert why(records.position) is Unavailable.NOT_INITIALISED
    assert why(lambda: records.change(change())) is Unavailable.NOT_INITIALISED
    assert why(lambda: records.take_lease("ladder", "a", LONG_S)) is Unavailable.NOT_INITIALISED


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
def test_what_the_server_says_is_said_by_its_kind(
    records: CatalogRecords, state: str, expected: Unavailable
) -> None:
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


def test_a_standby_can_be_read_and_says_that_it_is_no_more(
    own_records: CatalogRecords, own_server: PostgresServer
) -> None:
    made = own_records.change(change(write("flights", b"1"))).position
    with postgres(standby_of=own_server) as standby:
        records = CatalogRecords.open(standby.address("control"), initialise=False)
        assert records.position() == made
        assert contents(records, "flights") == [(1, b"1")]
        assert why(lambda: records.change(change())) is Unavailable.READ_ONLY
        assert why(lambda: records.take_lease("ladder", "a", LONG_S)) is Unavailable.READ_ONLY
        # It follows.
        known = own_records.change(change()).position
        found = made
        while found != known:
            found = records.wait(found, LONG_S)
        # After a failover it takes changes: the same process goes on with it.
        standby.promote()
        assert records.change(change()).position.number == known.number + 1
        records.close()


def test_several_hosts_lead_to_the_one_that_can_be_written(
    own_records: CatalogRecords, own_server: PostgresServer
) -> None:
    with postgres(standby_of=own_server) as standby:
        both = f"postgresql://control@/control?host={standby.folder},{own_server.folder}&target_session_attrs=read-write"
        records = CatalogRecords.open(both, initialise=False)
        assert records.change(change()).position.number == 2
        own_server.stop(signal.SIGQUIT)
        assert why(records.position) is Unavailable.UNREACHABLE
        standby.promote()
        assert records.change(change()).position.number == 3
        records.close()


def test_no_log_has_contents_or_passwords(
    postgres_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "password").write_text("s3cret")
    with caplog.at_level(logging.DEBUG):
        records = CatalogRecords.open(
            f"{postgres_address}&password_file={tmp_path}/password", initialise=True
        )
        records.change(change(write("flights", b"c0ntent")))
        with pytest.raises(RecordsUnavailableError) as failed:
            records.database.write(
                lambda c: c.execute(sa.text("SELECT * FROM nothing WHERE a = :a"), {"a": "c0ntent"})
            )
        records.close()
    said = f"{caplog.text} {failed.value} {failed.value.__cause__}"
    assert "s3cret" not in said
    assert "c0ntent" not in said


def test_the_pool_is_enough_for_many_threads(records: CatalogRecords) -> None:
    found: list[Position] = []
    threads = [threading.Thread(target=lambda: found.append(records.position())) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [records.position()] * 40

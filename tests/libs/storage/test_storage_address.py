"""Addresses of databases."""

from pathlib import Path

import pytest

from headrace.storage.address import PostgresAddress, SqliteAddress, parse


@pytest.mark.parametrize("text", ["control.db", "/var/lib/headrace/control.db", "a folder/control.db"])
def test_a_path_is_a_file_of_sqlite(text: str) -> None:
    assert parse(text) == SqliteAddress(Path(text))


def test_options_of_libpq_are_handed_on() -> None:
    url = "postgresql://ann@db-1,db-2:5433/control?sslmode=verify-full&sslrootcert=/ca%20x.pem&target_session_attrs=read-write"
    assert parse(url) == PostgresAddress(
        {
            "user": "ann",
            "host": "db-1,db-2",
            "port": ",5433",
            "dbname": "control",
            "sslmode": "verify-full",
            "sslrootcert": "/ca x.pem",
            "target_session_attrs": "read-write",
        }
    )


def test_the_password_is_in_a_file() -> None:
    found = parse("postgres://ann@db/control?password_file=/run/secret%20s/d+b&sslmode=require")
    assert isinstance(found, PostgresAddress)
    assert found.password_file == Path("/run/secret s/d+b")
    assert found.options == {"user": "ann", "host": "db", "dbname": "control", "sslmode": "require"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sqlite:///control.db",
        "mysql://ann@db/control",
        "postgresql://ann:s3cret@db/control",
        "postgresql://ann@db/control?password=s3cret",
        "postgresql://ann@db/control?nonsense=s3cret",
    ],
)
def test_a_wrong_address_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(ValueError, match="address") as failed:
        parse(text)
    assert "s3cret" not in str(failed.value)
    assert failed.value.__cause__ is None

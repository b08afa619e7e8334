"""Databases of both kinds."""

from tests.libs.catalog.conftest import address, one_database, postgres_address, postgres_server, records

__all__ = ["address", "one_database", "postgres_address", "postgres_server", "records"]

"""Databases of both kinds."""

from tests.libs.catalog.conftest import address, postgres_address, postgres_server, records

__all__ = ["address", "postgres_address", "postgres_server", "records"]

"""`CatalogRecords` does what `Records` must, on both databases, and through a pooler."""

from collections.abc import Iterator

import pytest

from headrace.catalog.records import CatalogRecords
from tests.libs.catalog.records_contract import RecordsContract


class TestCatalogRecords(RecordsContract):
    pass


class TestBehindAPooler(RecordsContract):
    @pytest.fixture
    def records(self, pooled_address: str) -> Iterator[CatalogRecords]:
        opened = CatalogRecords.open(pooled_address, initialise=True)
        yield opened
        opened.close()

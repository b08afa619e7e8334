"""`CatalogRecords` does what `Records` must, on both databases."""

from tests.libs.catalog.records_contract import RecordsContract


class TestCatalogRecords(RecordsContract):
    pass

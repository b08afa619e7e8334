"""All that `Records` must do, on both databases, through a pooler and through a real control."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from services.control.records import kinds
from tests.control_service import control_here
from tests.libs.catalog.records_contract import RecordsContract


class TestCatalogRecords(RecordsContract):
    pass


class TestBehindAPooler(RecordsContract):
    @pytest.fixture
    def records(self, pooled_address: str) -> Iterator[CatalogRecords]:
        with closing(CatalogRecords.open(pooled_address, initialise=True)) as opened:
            yield opened


class TestRemoteRecords(RecordsContract):
    @pytest.fixture
    def records(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteRecords]:
        # The contract is of records as such; what each kind must be is tested with control.
        monkeypatch.setattr(kinds, "check_writes", lambda change, records: None)
        monkeypatch.setattr(kinds, "check_documents", lambda change: None)
        with control_here(tmp_path) as control, closing(RemoteRecords(control.target)) as found:
            yield found

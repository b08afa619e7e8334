"""Records through a real control: all that any records must do, and what only the way there can do wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.catalog.remote import RemoteRecords
from services.control.records import kinds
from tests.control_service import control_here
from tests.libs.catalog.records_contract import RecordsContract


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteRecords]:
    # The contract is of records as such; what each kind must be is tested with control.
    monkeypatch.setattr(kinds, "check_writes", lambda change, records: None)
    with control_here(tmp_path) as control:
        found = RemoteRecords(control.target)
        yield found
        found.close()


class TestRemoteRecords(RecordsContract):
    """What all records do."""

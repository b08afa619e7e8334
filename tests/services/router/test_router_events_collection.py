"""Collecting the journal: one message that monitoring refuses for ever keeps its file, and stops no other message."""

import time
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry

from headrace.hop.errors import Code, Fault, Reason
from services.router.events.metrics import EventMetrics
from services.router.events.regulated import collection
from services.router.events.regulated.journal_file import JournalFiles


class Monitoring:
    """Keeps what it takes; refuses `unwanted`."""

    def __init__(self, unwanted: bytes) -> None:
        self._unwanted = unwanted
        self.taken: list[bytes] = []

    async def record_encoded(self, content: bytes, deadline: float) -> None:
        if content == self._unwanted:
            raise Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, "no")
        self.taken.append(content)


async def test_a_refused_message_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "_MESSAGE_BYTES", 1)  # each frame is a message
    files, monitoring = JournalFiles(tmp_path, 1 << 20, 1 << 20), Monitoring(b"second")
    for content in (b"first", b"second", b"third"):
        files.append(7, content)
    metrics = EventMetrics(CollectorRegistry())
    log = structlog.get_logger()
    await collection.Collection(files, monitoring, metrics, 1.0, time.monotonic, log).collect()
    assert monitoring.taken == [b"first", b"third"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".unreadable"]

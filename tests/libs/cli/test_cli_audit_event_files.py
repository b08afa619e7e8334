"""Files of events against the audit: what was altered in either is named; what changes meanwhile is not."""

import pytest

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.audit.event_files import EventFileVerification

LINES = [
    (1, "events.store", "a", "11"),
    (2, "events.store", "b", "22"),
    (3, "events.remove", "b", "22"),
    (9, "events.store", "later", "33"),
]


@pytest.mark.parametrize(
    ("files", "problems", "told"),
    [
        ({"a": "11"}, {}, ""),
        ({"a": "11", "b": "22"}, {}, ""),  # it went after monitoring was asked
        ({}, {}, "a: it is not stored any more"),
        ({"a": "12"}, {}, "a: the audit does not have this file"),
        ({"a": "11", "c": "44"}, {}, "c: the audit does not have this file"),
        ({"a": "11"}, {"a": "its SHA-256 is not the one that was stored"}, "a: its SHA-256"),
    ],
)
def test_what_differs_is_named(files: dict[str, str], problems: dict[str, str], told: str) -> None:
    found = pb.VerifyEventsResponse(
        files=[pb.EventFile(path=path, sha256=digest) for path, digest in files.items()],
        problems=[pb.EventFileProblem(path=path, problem=text) for path, text in problems.items()],
    )
    verification = EventFileVerification(found, before=5)
    for number, action, path, digest in LINES:
        verification.add(number, {"action": action, "subject": path, "details": {"sha256": digest}})
    assert "".join(verification.problems()).removeprefix("file of events ").startswith(told)
    assert bool(verification.problems()) == bool(told)
    assert verification.notes == []


def test_without_monitoring_it_says_what_was_not_verified() -> None:
    verification = EventFileVerification(None, 1)
    assert "not verified" in verification.notes[0]
    assert verification.problems() == []

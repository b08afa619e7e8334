"""`headrace audit`, as a person or a script types it, with a real control and the journals of a home; files of events against
the audit: what was altered in either is named, what changes meanwhile is not."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import Result

from headrace.api.control.v1 import resources_pb2
from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.audit import heads
from headrace.audit.chain import Head
from headrace.catalog.access import Change, Write
from headrace.catalog.records import CatalogRecords
from headrace.cli.commands.audit.event_files import EventFileVerification
from headrace.cli.installation import layout
from headrace.hop.call import unary
from headrace.releases.of_records import FREEZE
from headrace.state import json_lines, security
from tests.control_service import ControlService
from tests.libs.cli import released_home

LONG_S = 60.0
_WATCH = unary(resources_pb2.WatchRequest, resources_pb2.WatchResponse, idempotent=True)


class Audited:
    """A home with a control of its own that follows its journals and exports its head."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.outside = home / "outside"
        self.layout = at = layout.of(home)
        at.audit.mkdir(parents=True)
        at.readings.touch()
        audit = {
            "journals": {name: str(path) for name, path in at.journals.items()},
            "poll_s": 0.01,
            "exported": str(self.outside),
            "export_s": 0.01,
        }
        self.control = ControlService(audit=audit)
        released_home.write_settings(home, store=f"control:{self.control.target}")
        at.control_public_key.write_bytes(self.control.public_key)

    def run(self, *arguments: object) -> Result:
        return released_home.run(self.home, "audit", *arguments)

    def ok(self, *arguments: object) -> str:
        return released_home.ok(self.home, "audit", *arguments)

    def verify(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        result = self.run("verify", "--json", *arguments)
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        assert found["holds"] == (code == 0)
        return found

    def fill(self) -> None:
        """Changes, and lines of two journals that are in the chain."""
        records = self.control.records()
        for number in range(3):
            about = {"author": "ann", "reason": f"{number}", "at": "2026-12-01T12:00:00+00:00"}
            content = json.dumps(about).encode()
            records.change(Change("ann", "automation.freeze", "all", [Write(FREEZE, "all", content)], "why"))
        for version in ("1", "2"):
            json_lines.append_entry(self.layout.model_log, {"event": "loaded", "version": version})
        events = security.SecurityEvents(lambda: 1.0)
        for client in ("10.0.0.1", "10.0.0.2"):
            events.add("denied", client, {"tenant": "acme"})
        json_lines.append_rotated(self.layout.security_log, b"".join(events.take()))
        records.close()
        self.followed(models=2, security=2)

    def followed(self, **lines: int) -> None:
        """The chain has so many lines of journals."""
        deadline = time.monotonic() + LONG_S
        while True:
            counts = self.verify()["journals"]
            if all(counts.get(name) == count for name, count in lines.items()):
                return
            assert time.monotonic() < deadline, counts

    def watch(self, beyond: int = 0) -> int:
        """As a router: it has what is there, or a head so many lines `beyond`; returns the number of its line."""
        records = self.control.records()
        at = records.position()
        request = resources_pb2.WatchRequest(watcher="router-1", service="router", ready=True)
        request.have.epoch, request.have.number = at.epoch, at.number + beyond
        request.have.head = bytes(32) if beyond else at.head
        records._call(_WATCH, request)
        records.close()
        return at.number + beyond

    def rewritten(self, statement: str) -> None:
        """SQL behind the back of a control that is stopped meanwhile."""
        self.control.stop()
        with closing(sqlite3.connect(self.control.database)) as connection, connection:
            assert connection.execute(statement).rowcount != 0
        self.control.start()


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Audited]:
    found = Audited(tmp_path)
    try:
        found.control.start()
        yield found
    finally:
        found.control.close()


def test_an_audit_that_holds(audited: Audited) -> None:
    audited.fill()
    assert "nobody outside holds a head" in audited.verify()["notes"][0]
    audited.watch()
    assert [note for note in audited.verify()["notes"] if "files of events" not in note] == []
    said = audited.ok("verify", "--heads", audited.outside)
    assert "the audit holds:" in said
    assert "2 of models" in said
    assert "2 of security" in said
    found = audited.verify("--heads", audited.outside)
    assert (found["problems"], found["torn"]) == ([], [])
    assert found["heads"] > 1
    # Each reading was recorded before.
    said_by = [entry["who"] for entry in json_lines.entries(audited.layout.readings)]
    assert said_by
    assert all("(headrace audit)" in who for who in said_by)


FREEZE_3 = "kind = 'freeze' AND version = 3"
LINE = "UPDATE audit SET line = CAST(replace(CAST(line AS TEXT), 'why', 'wky') AS BLOB) WHERE number = 3"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (LINE, "altered: line 3 was altered"),
        (
            f"UPDATE records SET content = CAST('evil' AS BLOB) WHERE {FREEZE_3}",
            "altered: freeze all version 3 is not what line ",
        ),
        (f"DELETE FROM records WHERE {FREEZE_3}", "removed: of freeze all, versions 1 to 3"),
    ],
    ids=["a line", "a record", "a record that is gone"],
)
def test_what_was_done_to_the_database_is_named(audited: Audited, statement: str, found: str) -> None:
    audited.fill()
    audited.rewritten(statement)
    problems = audited.verify(code=1)["problems"]
    assert any(problem.startswith(found) for problem in problems), problems
    said = audited.run("verify")
    assert said.exit_code == 1
    assert "the audit does not hold" in " ".join(said.output.split())


def rolled_back(audited: Audited) -> None:
    """The database as it was before the last freeze, with its own head, and changed since until its number is higher."""
    copy = audited.home / "yesterday"
    audited.control.stop()
    copy.write_bytes(Path(audited.control.database).read_bytes())
    audited.control.start()
    audited.fill()
    at_the_end = audited.verify()["lines"]
    audited.watch()
    wait_for_head(audited, at_the_end)
    audited.control.stop()
    Path(audited.control.database).write_bytes(copy.read_bytes())
    # The journals' lines are there still: they are read again.
    audited.control.start()
    records = audited.control.records()
    while records.position().number <= at_the_end:
        records.change(Change("eve", "note.write", "x"))
    records.close()


def wait_for_head(audited: Audited, number: int) -> None:
    deadline = time.monotonic() + LONG_S
    while not any(head.number >= number for head, *_ in heads.read(audited.outside)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_database_that_went_back_with_its_head_is_named_by_exported_heads(audited: Audited) -> None:
    rolled_back(audited)
    # By itself it is whole.
    assert audited.verify()["problems"] == []
    problems = audited.verify("--heads", audited.outside, code=1)["problems"]
    assert problems
    assert all("rolled back" in problem and "heads-" in problem for problem in problems)
    # Heads that another key signed say nothing.
    other = ControlService()
    key = audited.home / "other.pub"
    key.write_bytes(other.public_key)
    other.close()
    found = audited.verify("--heads", audited.outside, "--trusted", key)
    assert "is not signed by control's key" in found["notes"][0]


def test_what_people_gave_up_is_a_note(audited: Audited) -> None:
    rolled_back(audited)
    begin = audited.verify()["lines"]
    audited.control.stop()
    records = CatalogRecords.open(audited.control.database, initialise=False)
    records.begin_epoch(Change("ann", "records.recover", "records", reason="yesterday's backup"))
    records.close()
    # What is exported now is of the new epoch, whose heads are beyond the lost ones.
    for path in audited.outside.iterdir():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if number_of(line) > begin))
    audited.control.start()
    at = audited.control.records()
    lost = Head(at.position().number + 50, bytes(32))
    at.close()
    private = serialization.load_pem_private_key(
        audited.control.folder.joinpath("key.pem").read_bytes(), None
    )
    assert isinstance(private, Ed25519PrivateKey)
    heads.export(audited.outside, 1, lost.number, lost.sha256, datetime.now(UTC), private.sign)
    found = audited.verify("--heads", audited.outside)
    assert any("was given up by line" in note and "yesterday's backup" in note for note in found["notes"])
    # Of the same epoch it is a rollback.
    heads.export(audited.outside, 2, lost.number, lost.sha256, datetime.now(UTC), private.sign)
    assert "rolled back" in audited.verify("--heads", audited.outside, code=1)["problems"][0]


def number_of(line: str) -> int:
    return int(json.loads(json.loads(line)["signed"])["number"])


def test_a_database_that_went_back_is_named_by_the_data_plane(audited: Audited) -> None:
    audited.fill()
    number = audited.watch(beyond=5)
    # Verifying is recorded, too, so there may be more lines by then.
    [problem] = audited.verify(code=1)["problems"]
    assert problem.startswith(f"rolled back: router router-1 holds line {number}, the newest is ")


def test_a_journal_that_was_altered_is_named(audited: Audited) -> None:
    audited.fill()
    content = audited.layout.model_log.read_bytes()
    audited.layout.model_log.write_bytes(content.replace(b'"2"', b'"3"'))
    problems = audited.verify(code=1)["problems"]
    assert any(p.startswith("journal models: models.jsonl lines ") for p in problems)


def test_lines_are_exported_those_of_persons_only_on_demand(audited: Audited) -> None:
    audited.fill()
    plain = audited.run("export").stdout.splitlines()
    assert [json.loads(line)["number"] for line in plain] == list(range(1, len(plain) + 1))
    assert not any("10.0.0" in line for line in plain)
    out = audited.home / "all.jsonl"
    audited.ok("export", "--persons", "--from", "3", "--out", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert next(line["number"] for line in lines if "number" in line) == 3
    assert {line["journal"] for line in lines if "journal" in line} >= {"models", "security", "readings"}
    assert sum("10.0.0" in line.get("text", "") for line in lines) == 2
    models = audited.run("export", "--source", "models").stdout.splitlines()
    assert [json.loads(json.loads(line)["text"])["version"] for line in models] == ["1", "2"]
    assert "add --persons" in audited.run("export", "--source", "security").output
    assert "the journals are" in audited.run("export", "--source", "nothing").output
    said = [entry["event"] for entry in json_lines.entries(audited.layout.readings)]
    assert said.count("exported") == 3


def test_a_client_is_erased_and_the_audit_holds(audited: Audited) -> None:
    audited.fill()
    assert "1 lines are erased" in audited.ok("erase", "--client", "10.0.0.1", "--reason", "they asked")
    assert "10.0.0.1" not in audited.layout.security_log.read_text()
    assert audited.verify()["problems"] == []
    assert "name a --tenant" in audited.run("erase", "--reason", "x").output


@pytest.mark.parametrize("command", [("verify",), ("export",), ("erase", "--client", "a", "--reason", "b")])
def test_what_can_not_be_recorded_is_not_read(audited: Audited, command: tuple[str, ...]) -> None:
    audited.layout.readings.unlink()
    audited.layout.readings.mkdir()
    result = audited.run(*command)
    assert result.exit_code == 1
    assert "what can't be recorded is not done" in " ".join(result.output.split())


def test_a_key_that_is_none_and_a_control_that_is_away_are_said(audited: Audited) -> None:
    audited.layout.control_public_key.write_text("no key")
    result = audited.run("verify", "--heads", audited.outside)
    assert (result.exit_code, "is no public key of control" in " ".join(result.output.split())) == (1, True)
    audited.control.kill()
    result = audited.run("verify")
    assert (result.exit_code, "control" in result.output) == (1, True)


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

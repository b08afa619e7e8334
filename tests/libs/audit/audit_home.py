"""Journals as an installation has them, and a database whose chain they join."""

import json
from collections.abc import Mapping
from pathlib import Path

from headrace.audit.access import READINGS, Access
from headrace.audit.journal_verification import JournalVerification
from headrace.audit.journals import Journal
from headrace.catalog.records import CatalogRecords
from headrace.state import json_lines, security
from services.control.audit.follower import JournalFollower

DAY_S = 86_400.0


class Home:
    """`wall`: seconds since 1970 for what is deleted by its age."""

    def __init__(self, folder: Path, records: CatalogRecords) -> None:
        self.folder = folder
        self.records = records
        self.models = folder / "models.jsonl"
        self.security = folder / "security.jsonl"
        self.access = Access(folder / "readings.jsonl")
        self.gaps: list[tuple[str, str]] = []
        self.wall = 0.0
        self.retention_bytes = 1 << 30

    def journals(self) -> list[Journal]:
        paths = {"models": self.models, "security": self.security, READINGS: self.access.path}
        return [Journal(name, path) for name, path in paths.items()]

    def follower(self) -> JournalFollower:
        """As a process of control that has just begun."""
        return JournalFollower(
            lambda: self.records,
            self.journals(),
            lambda name, problem: self.gaps.append((name, problem)),
            lambda: self.wall,
            DAY_S,
            self.retention_bytes,
        )

    def follow(self) -> None:
        self.follower().follow()

    def loaded(self, *versions: int) -> None:
        for version in versions:
            json_lines.append_entry(self.models, {"at": "now", "event": "loaded", "version": str(version)})

    def refused(self, *clients: str, tenant: str = "acme", rotated: int | None = None) -> None:
        for client in clients:
            events = security.SecurityEvents(lambda: 1.0)
            events.add("denied", client, {"tenant": tenant})
            json_lines.append_rotated(self.security, b"".join(events.take()), rotated, 100)

    def lines(self, action: str = "") -> list[Mapping[str, str]]:
        """What the chain says of journals: subject, reason and details."""
        found = (json.loads(line.line) for line in self.records.lines())
        return [
            {"journal": said["subject"], "reason": said["reason"], **said["details"]}
            for said in found
            if said["action"] == f"journal.{action}"
        ]

    def verify(self) -> JournalVerification:
        verification = JournalVerification(self.journals())
        for line in self.records.lines():
            verification.add(line.number, json.loads(line.line))
        verification.compare()
        return verification

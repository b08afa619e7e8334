"""Files of events against the audit, which has the hash of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.operations import service_calls
from headrace.cli.installation.layout import Layout
from headrace.hop.errors import Fault

_VERIFY = pb.DESCRIPTOR.services_by_name["EventsService"].methods_by_name["VerifyEvents"]


class EventFileVerification:
    """Reads the lines of the audit after monitoring said what it has. `before`: number of the newest line before that."""

    def __init__(self, found: pb.VerifyEventsResponse | None, before: int) -> None:
        """`found` None: monitoring could not be asked."""
        self._found = found
        self._before = before
        self._hashes: dict[str, str] = {}
        self._gone: set[str] = set()

    @classmethod
    def asked(cls, layout: Layout, before: int) -> EventFileVerification:
        """With what the monitoring service of the home says, which reads all files for it."""
        if not any(layout.listed("monitoring").glob("*.sock")):
            return cls(None, before)
        try:
            request, reply = pb.VerifyEventsRequest(), pb.VerifyEventsResponse
            return cls(service_calls.answer(layout, "monitoring", _VERIFY, request, reply), before)
        except Fault:
            return cls(None, before)

    @property
    def notes(self) -> list[str]:
        return (
            []
            if self._found
            else ["the monitoring service could not be asked, so files of events were not verified"]
        )

    def add(self, number: int, fields: Mapping[str, Any]) -> None:
        """A line of the audit."""
        if fields["action"] == "events.store" and number <= self._before:
            self._hashes[fields["subject"]] = fields["details"].get("sha256", "")
        elif fields["action"] == "events.remove":
            self._gone.add(fields["subject"])

    def problems(self) -> list[str]:
        """After the last line: what is not as the audit has it."""
        if self._found is None:
            return []
        there = {file.path: file.sha256 for file in self._found.files}
        found = {problem.path: problem.problem for problem in self._found.problems}
        for path, digest in there.items():
            if path not in self._gone and self._hashes.get(path) != digest:
                found[path] = "the audit does not have this file with its hash"
        for path in self._hashes.keys() - there.keys() - self._gone:
            found[path] = "it is not stored any more, and the audit does not say that it went"
        return [f"file of events {path}: {text}" for path, text in sorted(found.items())]

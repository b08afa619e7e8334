"""`headrace audit verify`: check the whole audit, the records, the journals, files of events, and the heads that others hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.audit import chain, heads
from headrace.audit.chain import Head, Problem
from headrace.audit.journal_verification import JournalVerification, torn_lines
from headrace.audit.journals import Journal
from headrace.catalog.remote import RemoteRecords
from headrace.cli.commands.audit.event_files import EventFileVerification
from headrace.cli.commands.audit.place import failures, journals, record
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, place
from headrace.cli.installation import control_place
from headrace.resources.manifest import Verifier

_SHOWN = 20
_NO_HEADS = (
    "nobody outside holds a head of it, so a database that was put back with its head is not noticed: name exported"
    " ones (--heads), or start the services"
)


def verify(
    home: Home = DEFAULT_HOME,
    trusted: Annotated[
        Path | None,
        typer.Option("--trusted", help="File of control's public key; control.pub of the home if absent."),
    ] = None,
    exported: Annotated[
        list[Path] | None, typer.Option("--heads", help="Folder with heads that control exported.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every line, the records, the journals, files of events, and the heads that others hold.

    Exit code 1 if something was changed."""
    layout = place(home)
    record(layout, "verified")
    known = KnownHeads(_verifier(trusted or layout.control_public_key) if exported else None)
    with failures():
        for folder in exported or ():
            try:
                known.add_exported(folder)
            except OSError as error:
                fail(f"{folder} can't be read ({error.strerror})")
        with control_place.records(layout) as records:
            events = EventFileVerification.asked(layout, records.position().number)
            report = verified(records, journals(layout), known, events)
    (_print_json if as_json else _print)(report, home)
    if report.problems:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Report:
    """`notes`: what a reader should know, and what is no sign of tampering. `torn`: lines that a power loss cut off. `counts`:
    lines of journals that the audit has. `held`: heads that others hold."""

    lines: int
    head: bytes
    problems: Sequence[str]
    notes: Sequence[str]
    torn: Sequence[str]
    counts: Mapping[str, int]
    held: int


@dataclass(slots=True)
class KnownHeads:
    """Heads that others hold. A signature is verified only where a head contradicts the audit: the others say nothing new."""

    verifier: Verifier | None
    heads: list[Head] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _epochs: dict[Head, int] = field(default_factory=dict)
    _signed: dict[Head, tuple[bytes, bytes]] = field(default_factory=dict)
    # Epoch → the line that it began with, and what that says.
    _begins: dict[int, tuple[int, str]] = field(default_factory=dict)

    def add_exported(self, folder: Path) -> None:
        """Raises OSError."""
        for head, epoch, content, signature in heads.read(folder):
            self._add(head, epoch)
            self._signed[head] = content, signature

    def add_watchers(self, records: RemoteRecords) -> None:
        """What the processes of the data plane have. Raises RecordsError."""
        for watcher in records.watchers():
            if watcher.HasField("have"):
                at = watcher.have
                self._add(Head(at.number, at.head, f"{watcher.service} {watcher.watcher}"), at.epoch)

    def add_line(self, number: int, fields: Mapping[str, Any]) -> None:
        """A line of the audit."""
        said = f"line {number}, {fields['at']}: {fields['action']} by {fields['actor']}: {fields['reason']}"
        self._begins.setdefault(fields["epoch"], (number, said))

    def believed(self, head: Head) -> bool:
        """Whether a head that contradicts the audit counts: it was signed, and people have not given its history up since."""
        if head in self._signed and not (self.verifier and self.verifier.signed(*self._signed[head])):
            self.notes.append(f"{head.where} is not signed by control's key")
            return False
        for epoch, (number, said) in self._begins.items():
            if epoch > self._epochs[head] and number <= head.number:
                note = f"what {head.where} holds was given up by {said}"
                self.notes.append(note)
                return False
        return True

    def _add(self, head: Head, epoch: int) -> None:
        self.heads.append(head)
        self._epochs[head] = epoch


def verified(
    records: RemoteRecords, found: Sequence[Journal], known: KnownHeads, events: EventFileVerification
) -> Report:
    """Verifies everything. Raises RecordsError."""
    # Control compares the records meanwhile; it is another process.
    with ThreadPoolExecutor(1) as thread:
        by_control = thread.submit(records.problems)
        # Before the end is read, as all of them must be in it.
        known.add_watchers(records)
        end = records.position()
        journal = JournalVerification(found)
        lines = takewhile(lambda line: line.number <= end.number, records.lines())
        problems = chain.verify(
            lines,
            Head(end.number, end.head),
            known.heads,
            _all(known.add_line, journal.add, events.add),
            known.believed,
        )
        journal.compare()
        own = _texts(problems)
        # It finds the same in the lines.
        theirs = [text for text in _texts(by_control.result()) if text not in own]
    notes = [*journal.notes, *events.notes, *known.notes, *(() if known.heads else (_NO_HEADS,))]
    return Report(
        end.number,
        end.head,
        [*own, *theirs, *journal.findings, *events.problems()],
        notes,
        list(torn_lines(found)),
        journal.counts,
        len(known.heads),
    )


def _all(*each: Callable[[int, Mapping[str, Any]], None]) -> Callable[[int, Mapping[str, Any]], None]:
    def every(number: int, fields: Mapping[str, Any]) -> None:
        for one in each:
            one(number, fields)

    return every


def _texts(problems: Iterable[Problem]) -> list[str]:
    return [f"{problem.fault}: {problem.text}" for problem in problems]


def _verifier(path: Path) -> Verifier:
    """Ends the command if the file holds no public key."""
    try:
        return Verifier([path.read_bytes()])
    except (OSError, ValueError) as error:
        fail(f"{path} is no public key of control: {error}")


def _print(report: Report, home: Path) -> None:
    for word, texts in (("note:", report.notes), ("torn:", report.torn)):
        for text in texts:
            out.print(word, style="yellow", end=" ")
            out.print(text, markup=False, soft_wrap=True)
    if not report.problems:
        of = ", ".join(f"{count} of {name}" for name, count in sorted(report.counts.items()))
        out.print("the audit holds:", style="bold green", end=" ")
        journal_lines = f", and of journals {of}" if of else ""
        out.print(f"{report.lines} lines{journal_lines}; others hold {report.held} heads of it", markup=False)
        return
    for text in report.problems[:_SHOWN]:
        out.print(text, style="bold red", markup=False, soft_wrap=True)
    if len(report.problems) > _SHOWN:
        out.print(f"and {len(report.problems) - _SHOWN} more; --json has them", style="dim")
    err.print(
        f"the audit does not hold. Next: copy control's database and {home}/audit as evidence, and compare with a backup",
        markup=False,
    )


def _print_json(report: Report, _: Path) -> None:
    values = {
        "holds": not report.problems,
        "lines": report.lines,
        "head": report.head.hex(),
        "heads": report.held,
        "journals": dict(report.counts),
        "problems": list(report.problems),
        "notes": list(report.notes),
        "torn": list(report.torn),
    }
    print(json.dumps(values, indent=2))

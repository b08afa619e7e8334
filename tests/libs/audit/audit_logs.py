"""Logs for the tests: writers without fsync, that can be stopped at any file, and a home with journals."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from headrace.audit import Access, Collector, Journal, Payloads, Report, Signer, Writer, verify
from headrace.audit.notes import Checkpoint
from headrace.state import chain

SIGNER = Signer("headrace.test/audit", Ed25519PrivateKey.from_private_bytes(b"1" * 32))
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class KilledError(BaseException):
    """The process was killed here."""


def quick(path: Path, content: bytes) -> None:
    """Replaces a file in one step, without waiting for the disk."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)


class Killed:
    """Writes as `quick`, and is killed in the `at`-th write: before it, within it, or right after it."""

    def __init__(self, at: int, how: str) -> None:
        self.left = at
        self._how = how

    def __call__(self, path: Path, content: bytes) -> None:
        self.left -= 1
        if self.left:
            quick(path, content)
            return
        if self._how == "within":
            path.with_name(f".{path.name}.0000").write_bytes(content[: len(content) // 2])
        elif self._how == "after":
            quick(path, content)
        raise KilledError


def entry(number: int) -> bytes:
    """An entry as the collector would make it."""
    return b'{"source":"test","at":"","kind":"k","file":"f","line":%d,"end":%d,"text":"x"}' % (
        number + 1,
        number + 1,
    )


def filled(folder: Path, size: int, text: bytes = b"") -> None:
    """A log of so many entries: of those that it has already, and new ones with `text` at their end."""
    log = Writer(folder, SIGNER, quick)
    log.append([entry(i) + text for i in range(log.size, size)])
    log.publish()
    log.close()


def release(log: Writer) -> None:
    """What the kernel does when a process is killed."""
    os.close(log._lock)


class Home:
    """Journals as an installation has them, and the collector."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.models = folder / "models.jsonl"
        self.releases = folder / "releases.jsonl"
        self.security = folder / "security.jsonl"
        self.payloads = Payloads(folder / "persons", lambda: NOON)
        self.access = Access(folder / "audit.jsonl", lambda: NOON)
        self.journals: tuple[Journal, ...] = (
            Journal("models", self.models, chained=True),
            Journal("releases", self.releases, chained=True),
            Journal("security", self.security, personal=True, lock=folder / ".security.jsonl.lock"),
            Journal("audit", self.access.path, chained=True),
        )
        self._folder = folder

    def collector(self, write: Callable[[Path, bytes], None] = quick) -> tuple[Writer, Collector]:
        log = Writer(self.log, SIGNER, write)
        return log, Collector(log, self.payloads, self.journals, lambda: NOON, self._folder / "places.json")

    def collect(self) -> int:
        """Takes up all that there is, and signs a checkpoint."""
        log, collector = self.collector()
        try:
            count = sum(iter(collector.collect, 0))
            collector.publish()
        finally:
            log.close()
        return count

    def loaded(self, *versions: int) -> None:
        for version in versions:
            chain.append(self.models, {"at": "now", "event": "loaded", "version": str(version)})

    def released(self, *numbers: int) -> None:
        for number in numbers:
            chain.append(
                self.releases, {"at": "now", "event": "changed", "pipeline": "flights", "number": number}
            )

    def refused(self, *clients: str, tenant: str = "acme") -> None:
        with self.security.open("a") as file:
            for client in clients:
                file.write(f'{{"time":"now","kind":"denied","client":"{client}","tenant":"{tenant}"}}\n')

    def verify(self, **witnessed: Checkpoint) -> Report:
        return verify(
            self.log, SIGNER.verifier, journals=self.journals, payloads=self.payloads, witnessed=witnessed
        )


def texts(report: Report) -> str:
    return "\n".join(f"{f.where}: {f.text}" for f in report.findings)


def all_files(folder: Path) -> Sequence[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))

"""`audit`: how fast lines come into the audit log, and how long verifying it takes."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

from headrace.audit import Report, verify
from headrace.audit.notes import ensure_keys
from headrace.audit.settings import Audit, AuditSettings
from headrace.state import chain

# As the door writes them: half of all entries have a line of their own in a segment, the others stand in the log itself.
_EVENT = {
    "time": "2026-11-26T12:00:00.000Z",
    "kind": "unknown_key",
    "tenant": "",
    "key": "",
    "method": "ModelInfer",
}


def run(options: argparse.Namespace) -> None:
    """Prints what it took."""
    with tempfile.TemporaryDirectory(prefix="headrace-audit-") as folder:
        audit = _made(Path(folder), options.entries)
        began = time.perf_counter()
        _collect(audit, options.entries)
        collected = time.perf_counter() - began
        began, used = time.perf_counter(), time.process_time()
        report = _verified(audit)
        took, cpu = time.perf_counter() - began, time.process_time() - used
    assert report.holds, report.findings
    print(
        f"{report.size:,} entries: collected in {collected:.1f} s ({report.size / collected:,.0f}/s, each file with fsync)"
    )
    print(f"verified in {took:.1f} s ({took / report.size * 1e6:.1f} µs an entry; {cpu:.1f} s of CPU)")


def _made(folder: Path, entries: int) -> Audit:
    """Journals with so many lines, half of them security events."""
    settings = AuditSettings(
        folder=folder / "audit",
        key=folder / "key",
        public_key=folder / "pub",
        models=folder / "models.jsonl",
        security=folder / "security.jsonl",
    )
    ensure_keys(settings.key, settings.public_key, "headrace.load/audit")
    with (folder / "security.jsonl").open("w") as file:
        for i in range(entries // 2):
            file.write(
                json.dumps({**_EVENT, "client": f"10.0.{i >> 8 & 255}.{i & 255}", "request_id": f"{i:032x}"})
                + "\n"
            )
    _chain(folder / "models.jsonl", entries - entries // 2)
    return Audit(settings)


def _chain(path: Path, lines: int) -> None:
    """A hash chain, written at once: with fsync for each line it would take an hour."""
    last, written = chain.FIRST, []
    for i in range(lines):
        entry = {
            "at": "2026-11-26T12:00:00.000+00:00",
            "event": "loaded",
            "model": "flights-delay",
            "version": str(i),
        }
        line = json.dumps({**entry, "who": "executor", "previous": last}).encode()
        written.append(line)
        last = hashlib.sha256(line).hexdigest()
    path.write_bytes(b"\n".join(written) + b"\n")


def _collect(audit: Audit, entries: int) -> None:
    writer, collector = audit.collecting()
    while collector.collect():
        _progress(f"collected {writer.size:,} of {entries:,}")
    collector.publish()
    writer.close()
    _clear_progress()


def _verified(audit: Audit) -> Report:
    def progress(done: int, size: int) -> None:
        if not done % 65_536 or done == size:
            _progress(f"verified {done:,} of {size:,}")

    report = verify(
        audit.log, audit.verifier(), journals=audit.journals, payloads=audit.payloads, progress=progress
    )
    _clear_progress()
    return report


def _progress(text: str) -> None:
    """A line that the next one replaces; nothing where the output goes to a file or a pipe."""
    if sys.stdout.isatty():
        print(f"\r{text}", end="", flush=True)


def _clear_progress() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")

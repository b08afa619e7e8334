"""Signed heads of the audit's chain, exported to a folder outside: whoever rolls the database back has not these.

A folder has one file of JSON lines for each day. Each line is what was signed, as text, and the signature: other programs need
only Ed25519 to check it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from headrace.audit.chain import Head
from headrace.state import json_lines

_FILES = "heads-*.jsonl"


def export(
    folder: Path, epoch: int, number: int, sha256: bytes, at: datetime, sign: Callable[[bytes], bytes]
) -> None:
    """Appends a head to the file of the day; it is on the disk once this returns. Several processes may do so. Raises OSError."""
    at = at.astimezone(UTC)
    head = {"head": sha256.hex(), "epoch": epoch, "number": number, "at": at.isoformat(timespec="seconds")}
    text = json.dumps(head, sort_keys=True, separators=(",", ":"))
    line = json.dumps({"signed": text, "signature": sign(text.encode()).hex()}).encode() + b"\n"
    path = folder / f"heads-{at:%Y-%m-%d}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    json_lines.append(path, line, mode=0o644)


def read(folder: Path) -> Iterator[tuple[Head, int, bytes, bytes]]:
    """Each exported head with its epoch, what was signed and the signature, which nobody has verified yet; oldest first. Lines
    that were cut off are left out. Raises OSError."""
    for path in sorted(folder.glob(_FILES)):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    about = json.loads(line)
                    said = json.loads(about["signed"])
                    head = Head(
                        int(said["number"]), bytes.fromhex(said["head"]), f"{path.name} line {number}"
                    )
                    yield (
                        head,
                        int(said["epoch"]),
                        about["signed"].encode(),
                        bytes.fromhex(about["signature"]),
                    )
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue

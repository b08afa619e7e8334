"""What a witness signs: a checkpoint of a known log that provably begins with the last one that it signed.

A request is the text `old SIZE`, the hashes of a consistency proof in base64, a line each, an empty line, and the checkpoint. The
answer is the line of the cosignature. Source: https://c2sp.org/tlog-witness, whose status codes the refusals have.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headrace.audit import tree
from headrace.audit.notes import (
    MAX_NOTE,
    Checkpoint,
    Note,
    NoteError,
    Signer,
    Verifier,
    opened,
    with_signatures,
)
from headrace.state import atomic

# The tree of a log has at most this many levels.
_MAX_PROOF = 63
MAX_REQUEST = MAX_NOTE + 64 * _MAX_PROOF
_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})")


class RefusedError(Exception):
    """The witness does not sign. `status`: as of HTTP; `known`: the size that it signed last, where that is what differs."""

    def __init__(self, status: int, why: str, known: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.known = known


class Witness:
    """Keeps the last checkpoints in `folder`, which processes may share. `logs`: whose it signs; `wall`: seconds since 1970."""

    def __init__(
        self, folder: Path, signer: Signer, logs: Sequence[Verifier], wall: Callable[[], float]
    ) -> None:
        self._folder = folder
        self._signer = signer
        self._logs = {log.name: log for log in logs}
        self._wall = wall

    def add(self, request: bytes) -> bytes:
        """The line of the signature for a request. Raises RefusedError, OSError: it can't be kept, so it is not signed."""
        old, proof, content = _parsed(request)
        log = self._log(content)
        try:
            checkpoint, _ = opened(content, log)
        except NoteError as error:
            raise RefusedError(403, str(error)) from None
        with self._locked():
            kept = self._kept(log)
            _check(old, proof, kept, checkpoint)
            line = self._signer.line(checkpoint.text, int(self._wall()))
            # Only our own signature: of those that somebody appended nothing is known.
            note = f"{checkpoint.text}\n{_line_of(content, log)}".encode()
            atomic.write(self._path(log), with_signatures(note, [line]))
        return line.encode()

    def last(self, origin: str) -> bytes:
        """The note that was signed last of a log. Raises RefusedError: there is none; OSError."""
        try:
            return self._path(self._logs[origin]).read_bytes()
        except (KeyError, FileNotFoundError):
            raise RefusedError(404, f"no checkpoint of {origin!r} is known") from None

    def _log(self, content: bytes) -> Verifier:
        try:
            origin = Checkpoint.parse(Note.parse(content).text).origin
        except NoteError as error:
            raise RefusedError(400, str(error)) from None
        if origin not in self._logs:
            raise RefusedError(404, f"the log {origin!r} is not known here")
        return self._logs[origin]

    def _kept(self, log: Verifier) -> Checkpoint:
        """What was signed last; an empty log at first. Raises OSError: what is kept can't be used, so nothing is signed."""
        try:
            content = self._path(log).read_bytes()
        except FileNotFoundError:
            return Checkpoint(log.name, 0, tree.EMPTY)
        try:
            return opened(content, log)[0]
        except NoteError as error:
            raise OSError(f"{self._path(log)}: {error}; restore it, nothing is signed without it") from error

    def _path(self, log: Verifier) -> Path:
        return self._folder / hashlib.sha256(log.name.encode()).hexdigest()[:16]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def request(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """What asks a witness to sign."""
    lines = [f"old {old}\n", *(f"{base64.b64encode(p).decode()}\n" for p in proof), "\n"]
    return "".join(lines).encode() + checkpoint


def _check(old: int, proof: Sequence[bytes], kept: Checkpoint, new: Checkpoint) -> None:
    if old > new.size:
        raise RefusedError(400, f"a log of {new.size} entries does not begin with {old}")
    if old != kept.size:
        raise RefusedError(409, f"the last checkpoint here has {kept.size} entries, not {old}", kept.size)
    if old == new.size and kept.root != new.root:
        raise RefusedError(409, f"another checkpoint of {old} entries was signed here", kept.size)
    if not tree.consistent(old, new.size, proof, kept.root, new.root):
        raise RefusedError(
            422, f"the proof does not show that the log begins with the {old} entries known here"
        )


def _parsed(content: bytes) -> tuple[int, list[bytes], bytes]:
    head, gap, note = content.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    old = _OLD.fullmatch(first)
    if not gap or old is None or len(lines) > _MAX_PROOF or len(content) > MAX_REQUEST:
        raise RefusedError(400, "it is no request for a signature")
    try:
        proof = [base64.b64decode(line, validate=True) for line in lines]
    except binascii.Error:
        raise RefusedError(400, "the proof is not in base64") from None
    return int(old[1]), proof, note


def _line_of(content: bytes, log: Verifier) -> str:
    """The line of the log's own signature."""
    mine = [s for s in Note.parse(content).signatures if s[:2] == (log.name, log.key_id)]
    name, key_id, signature = next(s for s in mine if log.signed(Note.parse(content).text, s[2]))
    return f"\u2014 {name} {base64.b64encode(key_id + signature).decode()}\n"

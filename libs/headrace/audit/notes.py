"""Checkpoints: the size and root of a log as a signed note, and the signatures of witnesses on it.

A note is text, an empty line, and lines `— NAME BASE64(key id, signature)`. A checkpoint's text is the log's name (origin), its
size and its root in base64, a line each. Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint,
https://c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from headrace.state import atomic

# The kinds of keys, by which their id and what they sign differ.
LOG, WITNESS = 0x01, 0x04
# A note with a hundred witnesses has less.
MAX_NOTE = 64 << 10
_ID, _TIME, _SIGNATURE, _KEY, _ROOT = 4, 8, 64, 32, 32
_DASH = "\u2014 "
_NAME = re.compile(r"[^\s+]{1,255}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteError(Exception):
    """A note, checkpoint or key is none, or nobody known signed it; the text says why."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name. `kind`: LOG or WITNESS."""

    name: str
    key: bytes
    kind: int = LOG

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key).digest()[:_ID]

    def __str__(self) -> str:
        """As it is written in files: `NAME+ID+KEY`."""
        return f"{self.name}+{self.key_id.hex()}+{_b64(bytes([self.kind]) + self.key)}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Raises NoteError."""
        # Base64 may hold a +, names may not.
        name, _, rest = text.strip().partition("+")
        key_id, _, key = rest.partition("+")
        content = _unb64(key)
        if not _NAME.fullmatch(name) or len(content) != 1 + _KEY or content[0] not in (LOG, WITNESS):
            raise NoteError("it is no Ed25519 key of the form NAME+ID+KEY")
        found = cls(name, content[1:], content[0])
        if found.key_id.hex() != key_id:
            raise NoteError("its id does not belong to its name and key")
        return found

    def signed(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (with the time before it, if a witness made it) is this key's on `text`."""
        message = text.encode()
        if self.kind == WITNESS:
            message = _cosigned(signature[:_TIME], text)
            signature = signature[_TIME:]
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with its name. `kind`: LOG or WITNESS."""

    name: str
    key: Ed25519PrivateKey
    kind: int = LOG

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.key.public_key().public_bytes_raw(), self.kind)

    def line(self, text: str, time_s: int = 0) -> str:
        """The line of a signature on `text`. `time_s`: seconds since 1970; only witnesses say it."""
        message, said = text.encode(), b""
        if self.kind == WITNESS:
            said = time_s.to_bytes(_TIME, "big")
            message = _cosigned(said, text)
        return f"{_DASH}{self.name} {_b64(self.verifier.key_id + said + self.key.sign(message))}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it was read; nothing is verified yet. `signatures`: name, key id, signature."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def parse(cls, content: bytes) -> Note:
        """Raises NoteError."""
        try:
            whole = content.decode() if len(content) <= MAX_NOTE else ""
        except UnicodeDecodeError:
            whole = ""
        text, gap, lines = whole.rpartition("\n\n")
        if not gap or not lines.endswith("\n") or any(ord(c) < 32 and c != "\n" for c in whole):
            raise NoteError("it is no signed note")
        return cls(text + "\n", tuple(_signature(line) for line in lines[:-1].split("\n")))

    def signed_by(self, verifier: Verifier) -> bool:
        """Whether one of the signatures is this key's. A wrong one in its name counts as none."""
        mine = (
            s for name, key_id, s in self.signatures if (name, key_id) == (verifier.name, verifier.key_id)
        )
        return any(verifier.signed(self.text, signature) for signature in mine)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How long a log was, and its root then."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Raises NoteError."""
        origin, size, root, *_ = [*text.split("\n"), "", "", ""]
        content = _unb64(root)
        if not origin or not _SIZE.fullmatch(size) or len(content) != _ROOT:
            raise NoteError("its lines are no name, size and root of a log")
        return cls(origin, int(size), content)


def sign(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The signed note of a checkpoint."""
    return f"{checkpoint.text}\n{signer.line(checkpoint.text)}".encode()


def opened(content: bytes, verifier: Verifier) -> tuple[Checkpoint, Note]:
    """The checkpoint of a log that `verifier` signed. Raises NoteError: it did not, or it is another log's."""
    note = Note.parse(content)
    if not note.signed_by(verifier):
        raise NoteError(f"it is not signed by {verifier.name} ({verifier.key_id.hex()})")
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != verifier.name:
        raise NoteError(f"it is of the log {checkpoint.origin!r}, not of {verifier.name!r}")
    return checkpoint, note


def ensure_keys(private: Path, public: Path, name: str, kind: int = LOG) -> bool:
    """Makes a pair of keys in two files if it is not there; returns whether it did.

    Raises OSError; NoteError: a file holds none.
    """
    made = not private.exists()
    if made:
        private.parent.mkdir(parents=True, exist_ok=True)
        content = Ed25519PrivateKey.generate().private_bytes_raw()
        text = f"{name}+{kind}+{_b64(content)}\n"
        atomic.write(private, text.encode(), mode=0o600)
    if not public.exists():
        atomic.write(public, f"{read_signer(private).verifier}\n".encode())
    return made


def read_signer(path: Path) -> Signer:
    """The private key of a file that `ensure_keys` made. Raises OSError, NoteError."""
    name, _, rest = path.read_text().strip().partition("+")
    kind, _, key = rest.partition("+")
    content = _unb64(key)
    if not _NAME.fullmatch(name) or kind not in (str(LOG), str(WITNESS)) or len(content) != _KEY:
        raise NoteError(f"{path} holds no key of the audit log; restore it from a copy")
    return Signer(name, Ed25519PrivateKey.from_private_bytes(content), int(kind))


def read_verifier(path: Path) -> Verifier:
    """The public key of a file. Raises OSError, NoteError."""
    try:
        return Verifier.parse(path.read_text())
    except (NoteError, UnicodeDecodeError) as error:
        raise NoteError(f"{path}: {error}") from None


def with_signatures(content: bytes, lines: Sequence[str]) -> bytes:
    """A note with more signatures."""
    return content + "".join(lines).encode()


def _cosigned(time: bytes, text: str) -> bytes:
    return f"cosignature/v1\ntime {int.from_bytes(time, 'big')}\n{text}".encode()


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    content = _unb64(encoded)
    if not line.startswith(_DASH) or not _NAME.fullmatch(name) or len(content) <= _ID:
        raise NoteError("a line of its signatures is none")
    return name, content[:_ID], content[_ID:]


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _unb64(text: str) -> bytes:
    """Empty if it is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""

"""The signed manifest: which position of the history a part is of, and the hash of the whole part.

A process takes over only what descends from what it has (`descends`). The manifest proves it: it names the newest positions
before its own, and answers the one that the process named. Nothing here needs control; only the signature is trusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headrace.catalog.access import Position
from headrace.resources.snapshot import Resource, Snapshot, is_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_MANIFEST_BYTES = 1 << 18
MAX_LISTING_BYTES = 1 << 26
ANCESTORS = 64
_MAX_NUMBER = 1 << 63
_HASH = re.compile(r"[0-9a-f]{64}")


class ManifestError(Exception):
    """A manifest can't be used; the text says why."""


class MalformedError(ManifestError):
    """It is no manifest, or no part."""


class SignatureError(ManifestError):
    """None of the trusted keys signed it."""


class PartError(ManifestError):
    """The resources are not those that the manifest names."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What control signed. `digest`, `count`: of the part of `service`. `at`: when it was signed (UTC).

    `ancestors`: (number, head) of the newest positions before this one in its history. `begins`: where its epochs began, its own
    among them. `after`: (number, head) of the position that a watcher had, which is in this history too.
    """

    service: str
    position: Position
    digest: bytes
    count: int
    at: datetime
    ancestors: tuple[tuple[int, bytes], ...] = ()
    begins: tuple[Position, ...] = ()
    after: tuple[int, bytes] | None = None

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8. These bytes are signed."""
        p = self.position
        values = {
            "service": self.service,
            "epoch": p.epoch,
            "number": p.number,
            "head": p.head.hex(),
            "digest": self.digest.hex(),
            "count": self.count,
            "at": self.at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "ancestors": [[number, head.hex()] for number, head in self.ancestors],
            "begins": [[b.epoch, b.number, b.head.hex()] for b in self.begins],
        }
        if self.after is not None:
            values["after"] = [self.after[0], self.after[1].hex()]
        return _canonical(values)


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest whose signature was verified, and the bytes that were signed."""

    manifest: Manifest
    raw: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class VerifiedPart:
    """A part that is what its manifest says."""

    signed: SignedManifest
    snapshot: Snapshot

    @classmethod
    def of(cls, signed: SignedManifest, snapshot: Snapshot) -> VerifiedPart:
        """Raises PartError."""
        count = len(snapshot.resources)
        if count != signed.manifest.count:
            raise PartError(f"the manifest names {signed.manifest.count} resources, and there are {count}")
        if snapshot.digest() != signed.manifest.digest:
            raise PartError("the resources are not those of the manifest: its hash is another one")
        return cls(signed, snapshot)

    @property
    def position(self) -> Position:
        return self.signed.manifest.position


def descends(have: Position | None, manifest: Manifest) -> bool:
    """Whether a process that has `have` may take over what the manifest names: it is the same position or a later one of the same
    history, or of a later epoch, which only people begin."""
    at = manifest.position
    if have is None:
        return True
    if at.epoch != have.epoch:
        return at.epoch > have.epoch and any(
            b.epoch == at.epoch and b.number <= at.number for b in manifest.begins
        )
    if at.number <= have.number:
        return (at.number, at.head) == (have.number, have.head)
    before = (have.number, have.head)
    return before == manifest.after or before in manifest.ancestors


def parse(content: bytes) -> Manifest:
    """The manifest of signed bytes. Unknown keys are ignored: a newer control may write more. Raises MalformedError."""
    values = _object(content, MAX_MANIFEST_BYTES)
    try:
        after = values.get("after")
        return Manifest(
            service=_text(values["service"]),
            position=Position(_number(values["epoch"], 1), _number(values["number"]), _hash(values["head"])),
            digest=_hash(values["digest"]),
            count=_number(values["count"]),
            at=_time(values["at"]),
            ancestors=tuple((_number(n), _hash(h)) for n, h in _list(values["ancestors"])),
            begins=tuple(
                Position(_number(e, 1), _number(n), _hash(h)) for e, n, h in _list(values["begins"])
            ),
            after=None if after is None else (_number(after[0]), _hash(after[1])),
        )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise MalformedError(f"it is no manifest: {type(error).__name__} {error}") from None


class Verifier:
    """Believes manifests that one of these keys signed (PEM, Ed25519). Raises ValueError if one is no such key."""

    def __init__(self, public_keys: Sequence[bytes]) -> None:
        # Imported late, as cryptography takes 50 ms: programs that follow nothing import this module too.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        self._keys: list[Ed25519PublicKey] = []
        for pem in public_keys:
            key = load_pem_public_key(pem)
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError("a key of control must be Ed25519 and public, in PEM")  # noqa: TRY004 - a file's content
            self._keys.append(key)
        if not self._keys:
            raise ValueError("no key of control is given, so nothing could be believed")

    def open(self, raw: bytes, signature: bytes, service: str) -> SignedManifest:
        """The manifest of a service. Raises SignatureError, MalformedError."""
        if not self.signed(raw, signature):
            raise SignatureError("no trusted key signed the manifest")
        manifest = parse(raw)
        if manifest.service != service:
            raise MalformedError(f"the manifest is of {manifest.service}, not of {service}")
        return SignedManifest(manifest, raw, signature)

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Whether a trusted key signed it."""
        from cryptography.exceptions import InvalidSignature

        for key in self._keys:
            with suppress(InvalidSignature):
                key.verify(signature, content)
                return True
        return False


class Signer:
    """Signs manifests by a private key (PEM, Ed25519, no password). Raises ValueError if it is no such key."""

    def __init__(self, private_key: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(private_key, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the key of control must be Ed25519 and private, in PEM")  # noqa: TRY004 - a file's content
        self._key = key

    def sign(self, manifest: Manifest) -> SignedManifest:
        raw = manifest.to_bytes()
        return SignedManifest(manifest, raw, self.sign_bytes(raw))

    def sign_bytes(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(content)


def new_keys() -> tuple[bytes, bytes]:
    """A private and its public key, PEM."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    return private, key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


def public_of(private_key: bytes) -> bytes:
    """The public key (PEM) of a private one. Raises ValueError if it is no such key."""
    from cryptography.hazmat.primitives import serialization as s

    public = Signer(private_key)._key.public_key()
    return public.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


def to_listing(part: VerifiedPart) -> bytes:
    """The manifest with the names and hashes of its resources, as one file: for disk and artifact store."""
    entries = [[r.kind, r.name, r.sha256.hex(), r.version] for r in part.snapshot.resources.values()]
    signed = part.signed
    return _canonical(
        {"manifest": signed.raw.decode(), "signature": signed.signature.hex(), "entries": sorted(entries)}
    )


def from_listing(
    content: bytes, verifier: Verifier, service: str, read: Callable[[list[bytes]], Iterable[bytes]]
) -> VerifiedPart:
    """The part of such a file. `read`: the contents of hashes, in their order; it raises OSError or PartError.

    Raises ManifestError, and what `read` does.
    """
    values = _object(content, MAX_LISTING_BYTES)
    try:
        raw, signature = values["manifest"].encode(), bytes.fromhex(values["signature"])
        entries = [(_text(k), _text(n), _hash(h), _number(v)) for k, n, h, v in _list(values["entries"])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"it is no list of resources: {type(error).__name__} {error}") from None
    signed = verifier.open(raw, signature, service)
    found = []
    for (kind, name, sha256, version), text in zip(entries, read([e[2] for e in entries]), strict=True):
        found.append(Resource.of(kind, name, text, version))
        if found[-1].sha256 != sha256:
            raise PartError(f"{kind} {name}: its content is damaged")
    return VerifiedPart.of(signed, Snapshot.of(found))


def _canonical(values: dict[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _object(content: bytes, limit: int) -> dict[str, Any]:
    if len(content) > limit:
        raise MalformedError(f"it is larger than {limit} bytes")
    try:
        values = json.loads(content.decode(), object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        raise MalformedError("it is no JSON in UTF-8 with each key once") from None
    if not isinstance(values, dict):
        raise MalformedError("it is no JSON object")
    return values


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _number(value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value < _MAX_NUMBER:
        raise ValueError("a number is out of range")
    return int(value)


def _hash(value: Any) -> bytes:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError("a hash must have 64 hexadecimal digits")
    return bytes.fromhex(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise ValueError("a name must be printable text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is wanted")
    return value


def _time(value: Any) -> datetime:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError("a time needs its zone")
    return found.astimezone(UTC)

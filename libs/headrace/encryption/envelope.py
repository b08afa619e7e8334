"""Envelopes: a header with the wrapped data key, then what is sealed (AES-256-GCM).

    HRSEALv1 | length, version of the key | length, wrapped data key | salt | sealed

Each envelope has a key of its own, made of the data key and the salt (HKDF-SHA256), so that a nonce never meets the same key
twice. The header can be replaced by one with the same data key wrapped anew (`rewrapped`); what is sealed stays as it is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from headrace.encryption.data_keys import DataKeys
from headrace.encryption.errors import DamagedError
from headrace.encryption.kms import DATA_KEY_BYTES, NONCE_BYTES, Wrapped

MAGIC = b"HRSEALv1"
TAG_BYTES = 16
_SALT_BYTES = 16
_INFO = b"headrace envelope v1"
# Its key is used once.
_ONCE = bytes(NONCE_BYTES)


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an envelope without a key."""

    wrapped: Wrapped
    salt: bytes

    def encode(self) -> bytes:
        version = self.wrapped.version.encode()
        content = self.wrapped.content
        return b"".join(
            (MAGIC, bytes([len(version)]), version, len(content).to_bytes(2, "big"), content, self.salt)
        )


def is_sealed(content: bytes | memoryview) -> bool:
    """Whether it is the beginning of an envelope."""
    return bytes(content[: len(MAGIC)]) == MAGIC


def read_header(content: bytes | memoryview) -> tuple[Header, int]:
    """The header, and where it ends. Raises DamagedError."""
    view, place = memoryview(content), len(MAGIC)

    def take(count: int) -> bytes:
        nonlocal place
        found = bytes(view[place : place + count])
        if len(found) < count:
            raise DamagedError("its header is cut off")
        place += count
        return found

    if not is_sealed(view):
        raise DamagedError("it is no envelope")
    try:
        version = take(take(1)[0]).decode()
    except UnicodeDecodeError:
        raise DamagedError("its header is damaged") from None
    wrapped = Wrapped(version, take(int.from_bytes(take(2), "big")))
    return Header(wrapped, take(_SALT_BYTES)), place


class Sealer:
    """Methods block, may be called by several threads. `identity`: what the envelope is, such as its name; it opens as nothing
    else."""

    def __init__(self, keys: DataKeys) -> None:
        self.keys = keys

    def begin(self) -> tuple[Header, AESGCM]:
        """A new envelope: its header, and its own key. Raises KeysAwayError."""
        key = self.keys.current()
        salt = os.urandom(_SALT_BYTES)
        return Header(key.wrapped, salt), _derived(key.secret, salt)

    def key(self, header: Header) -> AESGCM:
        """The key of an envelope. Raises KeysAwayError, LockedError."""
        return _derived(self.keys.open(header.wrapped), header.salt)

    def seal(self, content: bytes | memoryview, identity: str) -> bytes:
        """Raises KeysAwayError."""
        header, key = self.begin()
        self.keys.meter.sealed()
        return header.encode() + key.encrypt(_ONCE, content, identity.encode())

    def open(self, content: bytes | memoryview, identity: str) -> bytes:
        """Raises KeysAwayError, LockedError, DamagedError."""
        header, end = read_header(content)
        try:
            return self.key(header).decrypt(_ONCE, memoryview(content)[end:], identity.encode())
        except InvalidTag:
            self.keys.meter.unopened("damaged")
            raise DamagedError("it was cut off or altered, or has another's name") from None

    def rewrapped(self, content: bytes) -> bytes | None:
        """The same with its data key wrapped by the current version; None: it is already. Raises as `open`."""
        header, end = read_header(content)
        if header.wrapped.version == self.keys.kms.current():
            return None
        wrapped = self.keys.kms.wrap(self.keys.open(header.wrapped))
        return Header(wrapped, header.salt).encode() + content[end:]


def _derived(secret: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), DATA_KEY_BYTES, salt, _INFO).derive(secret))

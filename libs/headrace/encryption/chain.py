"""Parts of a file that grows, each sealed when it comes and bound to the one before: none can be taken away, moved or repeated,
except at the end, where a process that is killed stops."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace.encryption.envelope import TAG_BYTES, Sealer, read_header
from headrace.encryption.errors import DamagedError
from headrace.encryption.kms import NONCE_BYTES


class SealedChain:
    """Seals the parts of one file. `identity`: what kind of file it is. Raises KeysAwayError."""

    def __init__(self, sealer: Sealer, identity: str) -> None:
        header, self._key = sealer.begin()
        self.header = header.encode()
        self.wrapped = header.wrapped
        self._identity = identity.encode()
        self._count = 0
        self._last = b""

    def seal(self, content: bytes) -> bytes:
        """The next part. Its number is used up, also if it can't be written."""
        self._count += 1
        nonce = self._count.to_bytes(NONCE_BYTES, "big")
        return nonce + self._key.encrypt(nonce, content, self._identity + self._last)

    def kept(self, part: bytes) -> None:
        """It is in the file."""
        self._last = part[-TAG_BYTES:]


class OpenedChain:
    """Opens the parts of one file in their order. Raises KeysAwayError, LockedError, DamagedError."""

    def __init__(self, sealer: Sealer, header: bytes, identity: str) -> None:
        self._meter = sealer.keys.meter
        self._key: AESGCM = sealer.key(read_header(header)[0])
        self._identity = identity.encode()
        self._last = b""

    def open(self, part: bytes) -> bytes:
        """What was sealed."""
        nonce, sealed = part[:NONCE_BYTES], part[NONCE_BYTES:]
        try:
            content = self._key.decrypt(nonce, sealed, self._identity + self._last)
        except (InvalidTag, ValueError):
            self._meter.unopened("damaged")
            raise DamagedError("a part was altered, moved or taken away") from None
        self._last = part[-TAG_BYTES:]
        return content
